"""Sums over samples, layer by layer: traces, diagonals, outer products of gradients."""
