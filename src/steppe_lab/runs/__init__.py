"""Kinds of runs that a store holds."""
