"""Measures of gradients, their noise and the curvature along them."""
