"""The diagonal of the Hessian by the effective weights of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.curvature.per_sample.traces import folded_diagonals
from steppe.graphs.network_graph import Structure
from steppe.measures.measurement import Measurement, Need


@dataclass(frozen=True)
class NetworkDiagonal:
    """Diagonal entries, and the structure of the network they belong to."""

    by_tensor: Mapping[str, Tensor]  # shaped as the parameters, float64
    network: Structure


@dataclass(frozen=True)
class FoldedDiagonal(Need[NetworkDiagonal]):
    """The exact diagonal of the Gauss-Newton matrix of the loss terms.

    It is that of the Hessian where the network is piecewise linear. The weight w of an
    evaluated batch norm of deviation s stands for the effective one, w / s.
    """

    kind: ClassVar[str] = "diagonal"

    def serve(self, measurement: Measurement) -> NetworkDiagonal:
        """Send the factors of the loss back: a backward pass for each output."""
        return NetworkDiagonal(*folded_diagonals(measurement.objective))
