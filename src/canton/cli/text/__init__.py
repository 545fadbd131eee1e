"""The commands of `canton text`."""
