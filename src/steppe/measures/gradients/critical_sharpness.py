"""Critical sharpness: curvature from the learning rate at which the loss rises.

Source: Kalra et al., 2026, arXiv:2601.16979: the critical learning rate by doubling and
bisection along the update, here the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.gradients import (
    LossAlongGradient,
    LossGradient,
    nonzero_gradient,
)
from steppe.registry.bounds import Range, Ranges
from steppe.results import Estimate
from steppe.vectors import joint_norm

MOST_FACTORS = 100  # of 2, from the first learning rate


@MEASURES.add(
    "critical_sharpness",
    source="Kalra et al., 2026, arXiv:2601.16979",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("gradient", "losses along the gradient"),
    cost=Cost(forwards=10, gradients=1),
    cost_is="about",
    cost_note="doublings, then bisections to the tolerance",
)
@dataclass(frozen=True, kw_only=True)
class CriticalSharpness(AbstractMeasure):
    """Critical sharpness: 2 / eta, with eta the least learning rate that raises L.

    Forward passes alone after one gradient g: the least eta with L(w - eta g) > L(w),
    where a quadratic loss has 2 |g|^2 / g'Hg. So it needs no second derivatives, which
    attention kernels and compiled networks may lack.

    It is a curvature along one step and no substitute for the largest eigenvalue.
    Before a training is at the edge of stability, where the two meet, it is a small
    share of the eigenvalue, as the gradient has little of the sharpest direction.

    The search doubles or halves a learning rate until the loss changes from lower to
    higher, then bisects. Where the loss crosses its value at several rates it ends at
    one of them, which need not be the least.
    A gradient so small that the loss does not change by more than its rounding gives
    the curvature of rounding; in float32 that is near a minimum. Where the loss does
    not rise within 2^100 times the first rate, the value is an upper bound and not
    converged; where it rises at the least rate, there is no value.

    Difference from the paper: the first rate is 4 |L| / |g|^2, which is the critical
    one of a quadratic loss of one curvature whose minimum is 0, and not a setting.

    Args:
        rtol: width of the last interval of learning rates, as a share of its upper end.
    """

    bounds: ClassVar[Ranges] = {"rtol": Range(1e-6, 0.5)}

    rtol: float = 0.05

    def needs(self) -> Sequence[Need[Any]]:
        """The gradient."""
        return [LossGradient()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Search; nothing is drawn."""
        square = float(joint_norm(nonzero_gradient(measurement)).double()) ** 2
        base = measurement.of(LossAlongGradient(0.0))

        @cache
        def rises(rate: float) -> bool:
            loss = measurement.of(LossAlongGradient(rate))
            return not loss <= base  # also where it is no number

        first = 4 * abs(base) / square or 1 / math.sqrt(square)
        low, high = _bracket(rises, first)
        if high == math.inf:
            return Estimate(value=2 / low, converged=False)
        while high - low > self.rtol * high:
            middle = (low + high) / 2
            low, high = (low, middle) if rises(middle) else (middle, high)
        return Estimate(
            value=4 / (low + high), details={"critical_rate": (low + high) / 2}
        )


def _bracket(rises: Callable[[float], bool], rate: float) -> tuple[float, float]:
    """A learning rate that does not raise the loss, and twice that, which does.

    The second is infinite where none was seen.

    Raises:
        UsageError: the least rate raises the loss.
    """
    if rises(rate):
        for _ in range(MOST_FACTORS):
            if not rises(rate / 2):
                return rate / 2, rate
            rate /= 2
        raise UsageError(
            "the critical learning rate needs a loss that falls along its gradient, but"
            f" it rises from a learning rate of {rate:.3g} on; the loss may be at its "
            "rounding: use a wider dtype such as float64."
        )
    for _ in range(MOST_FACTORS):
        if rises(2 * rate):
            return rate, 2 * rate
        rate *= 2
    return rate, math.inf
