"""Recurrent cells and their layers, one file a cell."""
