"""The simulated model, with which Holdline can be tried without a model."""
