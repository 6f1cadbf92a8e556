"""Geometries: the shape of the ball that an ascent step is taken in.

A geometry turns the gradient g into the perturbation of radius rho that raises the
linearised loss most, in its own norm. Any method with an ascent step takes one:
`steppe.SAM(base, geometry=steppe.geometry.Adaptive())`. A geometry is one module beside
this one that adds a class to `GEOMETRIES`.
"""

from __future__ import annotations

from steppe.geometry.abstract import GEOMETRIES as GEOMETRIES
from steppe.geometry.abstract import Geometry as Geometry
from steppe.geometry.adaptive import Adaptive as Adaptive
from steppe.geometry.l2 import L2 as L2
from steppe.geometry.largest import LargestEntry as LargestEntry
from steppe.geometry.layer_wise import LayerWise as LayerWise
from steppe.geometry.preconditioned import Preconditioned as Preconditioned
from steppe.geometry.spectral import Spectral as Spectral
from steppe.registry.packages import offer

offer(__name__, GEOMETRIES)
