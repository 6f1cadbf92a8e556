"""Losses that rounding or pruning of the weights brings."""
