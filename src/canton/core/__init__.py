"""What all cells and layers share."""
