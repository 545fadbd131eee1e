"""Video: find a small flying thing by its motion."""
