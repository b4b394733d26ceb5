"""The network on its windows: one predictor per process."""
