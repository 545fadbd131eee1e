"""The C++ byte generator and its Python side."""
