"""Training: crops of the model space, one optimiser loop, a bundle at the end."""
