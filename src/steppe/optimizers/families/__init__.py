"""Computations that several optimizers share: ascent, noise, several gradients."""
