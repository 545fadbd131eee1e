"""What every cell and layer shares."""
