"""The commands of `canton track`."""
