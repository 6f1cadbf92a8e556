"""Quantities beside the loss at points of a subspace."""
