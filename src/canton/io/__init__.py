"""Files: atomic writes, and tensors with a header."""
