"""Directions through parameter space, and their lengths."""
