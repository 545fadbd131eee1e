"""Video reading and writing."""
