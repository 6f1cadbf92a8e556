"""Squared distances of all layers to the start of the training.

Source: Jiang et al., 2020, arXiv:1912.02178; Equations 40 and 41 by the numbers that
the code of Dziugaite et al., 2020, arXiv:2010.11924, refers to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layers import (
    Convolution,
    Norm,
    NormsOfLayers,
    published_adjustment,
)
from steppe.results import Estimate


@MEASURES.add(
    "distance_from_start",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="squared parameter",
    needs=("folded weights", "layers", "norms of layers", "start"),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch",
)
@dataclass(frozen=True, kw_only=True)
class DistanceFromStart(AbstractMeasure):
    """Squared norms of the change of the weights, summed over the layers.

    The change is that since the start of the training, which has to be given as `start`
    with its buffers: batch norm is folded with the statistics of its time into either.
    Published as fro-dist (its root as L2-dist) and dist-spec-init. Layers are those of
    `spectral_norms`; the details hold the norms `by_layer`, and `adjusted`, the root of
    the value over the number of loss terms.

    Args:
        norm: "frobenius" or "spectral".
        convolution: spectral norm of a convolution: of the "operator", the "matrix" or
            the "circular" one, see `spectral_norms`.
    """

    norm: Norm = "frobenius"
    convolution: Convolution = "operator"

    def needs(self) -> Sequence[Need[Any]]:
        """The norms of the change."""
        return [NormsOfLayers(self.norm, "change", self.convolution)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Add."""
        (norms,) = measurement.of_all(self.needs())
        value = math.fsum(norms.squares)
        terms = measurement.objective.count()
        return Estimate(
            value=value,
            converged=norms.converged,
            details={"by_layer": norms.by_layer, **published_adjustment(value, terms)},
        )
