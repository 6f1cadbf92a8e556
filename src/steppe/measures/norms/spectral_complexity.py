"""Complexity term of the margin bound with spectral norms.

Sources: Neyshabur, Bhojanapalli and Srebro, 2018, arXiv:1707.09564, and Bartlett,
Foster and Telgarsky, 2017, arXiv:1706.08498, for bounds of this kind; as a measure
Jiang et al., 2020, arXiv:1912.02178, Equations 29 and 30 by the numbers that the code
of Dziugaite et al., 2020, arXiv:2010.11924, refers to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steppe.cost import Cost
from steppe.errors import DataError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import Margins, tenth_percentile
from steppe.measures.needs.weights.layers import (
    Convolution,
    NormsOfLayers,
    Of,
    log_product,
    published_adjustment,
)
from steppe.results import Estimate

Reference = Literal["start", "origin"]


@MEASURES.add(
    "spectral_complexity",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="nats",
    needs=("folded weights", "layers", "norms of layers", "outputs", "start"),
    cost=Cost(forwards=2),
    cost_is="at most",
    cost_note="one pass and one batch",
)
@dataclass(frozen=True, kw_only=True)
class SpectralComplexity(AbstractMeasure):
    """Logarithm of the product of squared spectral norms, times relative distances.

    With the spectral norms s_l and the distances r_l in the Frobenius norm it is the
    logarithm of prod s_l^2 / margin^2 times the sum of r_l^2 / s_l^2. Published as
    spec-init-main (`reference` "start") and spec-orig-main ("origin"). Layers are those
    of `spectral_norms`, the margin is that of `inverse_margin`. The details hold
    `adjusted`, (value - log m) / 2 for m loss terms.

    Args:
        reference: distances to the "start" of the training, which has to be given, or
            to the "origin".
        convolution: spectral norm of a convolution: of the "operator", the "matrix" or
            the "circular" one, see `spectral_norms`.
    """

    reference: Reference = "start"
    convolution: Convolution = "operator"

    def needs(self) -> Sequence[Need[Any]]:
        """Both norms, and the margins."""
        return [*self._norms(), Margins()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply."""
        distances, spectral = measurement.of_all(self._norms())
        margin = tenth_percentile(measurement.of(Margins()))
        log = log_product(spectral) - 2 * math.log(abs(margin))
        relative = math.fsum(
            r2 / s2 for r2, s2 in zip(distances.squares, spectral.squares, strict=True)
        )
        if not relative:
            raise DataError(
                "the logarithm of a distance needs weights that have moved, but they "
                "are those of the start; measure with reference='origin'."
            )
        log += math.log(relative)
        terms = measurement.objective.count()
        return Estimate(
            value=log,
            converged=spectral.converged,
            details={
                "percentile": margin,
                **published_adjustment(log, terms, log=True),
            },
        )

    def _norms(self) -> list[NormsOfLayers]:
        of: Of = "change" if self.reference == "start" else "weights"
        return [
            NormsOfLayers("frobenius", of),
            NormsOfLayers("spectral", convolution=self.convolution),
        ]
