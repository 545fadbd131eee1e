"""Training: the loop, checkpoints, learning rate, weight average, curve and model file."""
