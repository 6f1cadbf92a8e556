"""Measures of the loss at random points around the parameters."""
