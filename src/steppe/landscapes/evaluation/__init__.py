"""Values at points of a subspace: the batches outside, the points inside."""
