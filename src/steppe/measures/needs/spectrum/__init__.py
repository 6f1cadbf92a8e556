"""Matrices of second derivatives, and runs and draws with them."""
