"""N-gram tables, history and mixing for byte models."""
