"""Surfaces: values at points of a subspace, their files, and their shape."""

from steppe.surfaces.band import Band
from steppe.surfaces.overlays import Arrow, Trajectory
from steppe.surfaces.surface import Surface, Values

__all__ = ["Arrow", "Band", "Surface", "Trajectory", "Values"]
