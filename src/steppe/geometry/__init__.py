"""Geometries: the shape of the ball that an ascent step is taken in.

A geometry turns the gradient g into the perturbation of radius rho that raises the
linearised loss most, in its own norm. Any method with an ascent step takes one:
`steppe.SAM(base, geometry=steppe.geometry.Adaptive())`. A geometry is one module beside
this one that adds a class to `GEOMETRIES`.
"""

from __future__ import annotations

from steppe.geometry.abstract import GEOMETRIES, Geometry
from steppe.geometry.adaptive import Adaptive
from steppe.geometry.l2 import L2
from steppe.geometry.largest import LargestEntry
from steppe.geometry.layer_wise import LayerWise
from steppe.geometry.preconditioned import Preconditioned
from steppe.geometry.spectral import Spectral
from steppe.registry.registry import discover

__all__ = [
    "GEOMETRIES",
    "L2",
    "Adaptive",
    "Geometry",
    "LargestEntry",
    "LayerWise",
    "Preconditioned",
    "Spectral",
]

discover(__name__)
