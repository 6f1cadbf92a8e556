"""Measures of two networks."""
