"""Losses and error rates at other points of parameter space."""
