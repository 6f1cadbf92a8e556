"""Subspaces of the parameters, and values evaluated on them."""
