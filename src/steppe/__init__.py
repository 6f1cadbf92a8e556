"""Flat minima for PyTorch: find them, measure them, see them."""
