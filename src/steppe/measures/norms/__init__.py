"""Norms of weights, margins, and terms of bounds made of them."""
