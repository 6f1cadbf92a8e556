"""Frobenius norm of the Hessian of the mean loss.

Source: Bisla et al., 2022, arXiv:2201.08025, supplement B; the mean of |H z|^2 over
random z is that of Hutchinson, 1990, doi:10.1080/03610919008812866, for H H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steppe.cost import Cost
from steppe.linalg.sampling import Sample, judged, rooted
from steppe.linalg.trace import sampled_square
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.spectrum.curvature import Scale, ScaledHessian
from steppe.measures.needs.spectrum.draws import HessianDraw, HessianDraws
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

MIN_SAMPLES = 20  # draws from which their number is planned
PUBLISHED_SAMPLES = 10


@MEASURES.add(
    "frobenius_norm",
    source="Bisla et al., 2022, arXiv:2201.08025, supplement B",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "random products", "Lanczos run"),
    cost=Cost(gradients=1, products=230),
    cost_is="at most",
    cost_note="max_samples + 30 products",
    planned_by="rtol",
)
@dataclass(frozen=True, kw_only=True)
class FrobeniusNorm(AbstractMeasure):
    """Frobenius norm of the Hessian: the root of the sum of its squared eigenvalues.

    The mean of |H z|^2 over random signs z, corrected by the part of H that 30
    Lanczos steps know: a few large eigenvalues make the draws vary much. The published
    variant is the plain mean over 10 standard normal z, whose intervals of 95 % hold
    the norm of a matrix with a few large eigenvalues in 92 % of cases. Samples weigh
    alike here; there, batches do.

    Args:
        rtol: asked standard error as a share of the norm.
        max_samples: random vectors at most, one Hessian product each; at least 20.
        variant: "correct", or "published", which heeds neither of the two above.
        scale: coordinates of the Hessian: "raw" for the parameters as they are,
            "balanced" in units of the length of each filter, as published.
    """

    bounds: ClassVar[Ranges] = {"rtol": POSITIVE, "max_samples": at_least(MIN_SAMPLES)}

    rtol: float = 0.05
    max_samples: int = 200
    variant: Variant = "correct"
    scale: Scale = "raw"

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [ScaledHessian(self.scale)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Draw, and take the root of the mean of the squares."""
        if self.variant == "published":
            return rooted(self._published(measurement).total())
        draws = HessianDraws(measurement, self.scale)
        sample = sampled_square(draws, self.rtol, MIN_SAMPLES, self.max_samples)
        return judged(rooted(sample.total()), self.rtol)

    def _published(self, measurement: Measurement) -> Sample:
        numbers = range(PUBLISHED_SAMPLES)
        draws = [HessianDraw(number, "gaussian", self.scale) for number in numbers]
        squares = torch.stack(measurement.of_all(draws))[:, 1]
        return Sample(torch.zeros(1, dtype=torch.float64, device="cpu"), squares[None])
