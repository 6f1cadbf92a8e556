"""Surfaces: values at points of a subspace, their files, and their shape."""

from steppe.surfaces.band import Band
from steppe.surfaces.merge_tree import Basin, Basins, basins
from steppe.surfaces.overlays import Arrow, Trajectory
from steppe.surfaces.surface import Surface, Values

__all__ = [
    "Arrow",
    "Band",
    "Basin",
    "Basins",
    "Surface",
    "Trajectory",
    "Values",
    "basins",
]
