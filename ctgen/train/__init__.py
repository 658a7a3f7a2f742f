"""Training: the Accelerate loop, its checkpoints, and the built-in objectives."""
