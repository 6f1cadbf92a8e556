"""Sum over layers of the squared Frobenius norm over the squared spectral norm.

Source: Jiang et al., 2020, arXiv:1912.02178; Equation 33 by the numbers that the code
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
from steppe.measures.needs.weights.layers import (
    Convolution,
    NormsOfLayers,
    log_product,
    published_adjustment,
)
from steppe.results import Estimate


@MEASURES.add(
    "frobenius_over_spectral",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="pure number",
    invariant_to=(
        "layer_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "logit_scale",
    ),
    needs=("folded weights", "layers", "norms of layers"),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch",
)
@dataclass(frozen=True, kw_only=True)
class FrobeniusOverSpectral(AbstractMeasure):
    """Squared Frobenius norms over squared spectral norms, summed over the layers.

    With `convolution` "matrix" a term is the stable rank of the layer. Published as
    fro-over-spec. Layers are those of `spectral_norms`; the details hold the terms
    `by_layer`, and `adjusted`, the root of the value over the number of loss terms.

    Args:
        convolution: spectral norm of a convolution: of the "operator", the "matrix" or
            the "circular" one, see `spectral_norms`.
    """

    convolution: Convolution = "operator"

    def needs(self) -> Sequence[Need[Any]]:
        """Both norms."""
        spectral = NormsOfLayers("spectral", convolution=self.convolution)
        return [NormsOfLayers("frobenius"), spectral]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Divide and add."""
        frobenius, spectral = measurement.of_all(self.needs())
        log_product(spectral)
        by_layer = {
            name: (frobenius.by_layer[name] / norm) ** 2
            for name, norm in spectral.by_layer.items()
        }
        value = math.fsum(by_layer.values())
        terms = measurement.objective.count()
        return Estimate(
            value=value,
            converged=spectral.converged,
            details={"by_layer": by_layer, **published_adjustment(value, terms)},
        )
