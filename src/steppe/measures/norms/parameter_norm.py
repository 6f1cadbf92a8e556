"""Sum of the squared norms of all layers.

Source: Jiang et al., 2020, arXiv:1912.02178; Equation 42 by the numbers that the code
of Dziugaite et al., 2020, arXiv:2010.11924, refers to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layers import NormsOfLayers, published_adjustment
from steppe.results import Estimate


@MEASURES.add(
    "parameter_norm",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="squared parameter",
    invariant_to=("unit_permutation",),
    needs=("folded weights", "layers", "norms of layers"),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch",
)
@dataclass(frozen=True, kw_only=True)
class ParameterNorm(AbstractMeasure):
    """Squared Frobenius norms, summed over the layers.

    Layers are those of `frobenius_norms`: weights with batch norm folded into them,
    without biases. Published as param-norm, its root as L2. The details hold the norms
    `by_layer`, and `adjusted`, the root of the value over the number of loss terms.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The norms."""
        return [NormsOfLayers("frobenius")]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Add."""
        norms = measurement.of(NormsOfLayers("frobenius"))
        value = math.fsum(norms.squares)
        terms = measurement.objective.count()
        return Estimate(
            value=value,
            details={"by_layer": norms.by_layer, **published_adjustment(value, terms)},
        )
