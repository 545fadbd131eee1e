"""Training: loop, checkpoints, learning rate, weight average, loss curve and model file."""
