"""Eigenvalues and statistics followed along training."""
