"""Analyses of one trained network."""
