"""Weights of layers, and those of other networks."""
