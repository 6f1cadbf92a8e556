"""Distance along the gradient at which the mean loss has risen by a given amount.

Source: Bisla et al., 2022, arXiv:2201.08025, supplement B, who name it after Keskar et
al., 2017, arXiv:1609.04836; it is not the sharpness in a box of that paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.errors import SteppeError, UsageError
from steppe.linalg.crossing import crossing
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.gradients.gradients import (
    LossAlongGradient,
    LossGradient,
    nonzero_gradient,
)
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.parameters import flatten
from steppe.registry.bounds import POSITIVE, Ranges
from steppe.results import Estimate
from steppe.vectors import joint_norm

LOWEST, HIGHEST = 1e-12, 1e12  # lengths that are looked at
# Of the published search, in multiples of the gradient:
SHORTEST, LONGEST, FACTOR, TOL = 1e-16, 1.0, 5, 1e-6
MOST = 1e30  # where that search, which has no end, is ended


@MEASURES.add(
    "epsilon_sharpness",
    source="Bisla et al., 2022, arXiv:2201.08025, supplement B",
    units="per parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "gradient", "losses along the gradient", "outputs"),
    cost=Cost(forwards=5, gradients=2, products=1),
    cost_is="about",
)
@dataclass(frozen=True, kw_only=True)
class EpsilonSharpness(AbstractMeasure):
    """Inverse length of the step along the gradient that raises the mean loss by eps.

    The gradient is that of the whole data. A loss that is quadratic along it,
    with slope s and curvature k, rises by eps after (-s + sqrt(s^2 + 2 k eps)) / k; the
    search begins there. At an exact minimum there is no such direction.

    The variant "published" multiplies the gradient by steps that grow from 1 by factors
    of 5 until the loss has risen, then bisects between 1e-16 and the last one, until
    the rise is within 1e-6 of eps or the interval of the multiples is below 1e-6: for
    gradients of a norm that is not small the result is coarse. (The paper grows by
    factors of 10 from the least number.)

    Args:
        eps: rise of the mean loss, in its units.
        variant: "correct" or "published".
    """

    bounds: ClassVar[Ranges] = {"eps": POSITIVE}

    eps: float = 0.1
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """The gradient, and for the first step the curvature along it."""
        curvature = [HessianOfLoss()] if self.variant == "correct" else []
        return [LossTerms(), LossGradient(), *curvature]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Search; nothing is sampled."""
        norm = float(joint_norm(nonzero_gradient(measurement)))
        if self.variant == "published":
            length, evaluations = self._published(measurement, norm)
            converged = True
        else:
            place = crossing(
                lambda length: self._rise(measurement, length / norm),
                self.eps,
                self._start(measurement, norm),
                low=LOWEST,
                high=HIGHEST,
            )
            length, evaluations = place.at, place.evaluations
            converged = place.converged
        if not 0 < length < math.inf:
            raise self._refusal()
        return Estimate(
            value=1 / length,
            converged=converged,
            details={"length": length, "evaluations": evaluations},
        )

    def _rise(self, measurement: Measurement, multiple: float) -> float:
        """Of the loss where a multiple of the gradient was added."""
        terms = measurement.of(LossTerms())
        base = measurement.objective.value_of(terms).value
        return measurement.of(LossAlongGradient(-multiple)) - base

    def _start(self, measurement: Measurement, norm: float) -> float:
        """Where a quadratic has risen by eps; a line where it bends down."""
        gradient = flatten(measurement.of(LossGradient())) / norm
        try:
            product = measurement.of(HessianOfLoss()) @ gradient
        except SteppeError:  # second derivatives that the network does not allow
            return self.eps / norm
        curvature = float(product.double() @ gradient.double())
        inside = norm**2 + 2 * curvature * self.eps
        if not 0 <= inside < math.inf:
            return self.eps / norm
        return 2 * self.eps / (norm + math.sqrt(inside))

    def _published(self, measurement: Measurement, norm: float) -> tuple[float, int]:
        low, high, evaluations = SHORTEST, LONGEST, 1
        while self._rise(measurement, high) < self.eps:
            high *= FACTOR
            evaluations += 1
            if high > MOST:
                raise self._refusal()
        while True:
            step = (low + high) / 2
            off = self._rise(measurement, step) - self.eps
            evaluations += 1
            if abs(off) <= TOL or high - low < TOL:
                return step * norm, evaluations
            if off < 0:
                low = step
            else:
                high = step

    def _refusal(self) -> UsageError:
        return UsageError(
            f"no step along the gradient between {LOWEST:g} and {HIGHEST:g} raises the "
            f"mean loss by eps={self.eps:g}; give another eps, as a loss of bounded "
            "terms rises no further than its bound."
        )
