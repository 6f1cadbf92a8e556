"""Checkpoints and displacements in the coordinates of a subspace."""
