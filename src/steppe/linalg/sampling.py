"""Means over random draws: how good they are, and how many they take.

The number of draws is planned from a pilot (Stein, 1945, doi:10.1214/aoms/1177731088):
a look after each draw would stop at lucky moments.

Shape letters: L parts, M random draws.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from torch import Tensor

from steppe.results import Estimate


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws of numbers that add up over parts."""

    inside: Tensor  # (L,) known terms of the sums, float64
    drawn: Tensor  # (L, M) random terms, float64

    def total(self) -> Estimate:
        """Estimate of the sum over all parts."""
        return self._estimate(float(self.inside.sum()), self.drawn.sum(0))

    def part(self, index: int) -> Estimate:
        """Estimate of one part."""
        return self._estimate(float(self.inside[index]), self.drawn[index])

    def wanted(self, rtol: float) -> float:
        """Number of draws that a relative standard error takes, judged from these."""
        total = self.total()
        if not total.stderr:
            return total.samples
        asked = rtol * abs(total.value)
        # The error falls with the square root of the number of draws.
        return math.inf if not asked else total.samples * (total.stderr / asked) ** 2

    def _estimate(self, inside: float, drawn: Tensor) -> Estimate:
        samples = len(drawn)
        stderr = float(drawn.std()) / samples**0.5 if samples > 1 else math.inf
        return Estimate(
            value=inside + float(drawn.mean()), stderr=stderr, samples=samples
        )


def draw(take: Callable[[int], Sample], rtol: float, least: int, most: int) -> Sample:
    """Draw until the standard error of the total is within the tolerance.

    Args:
        take: a number M to the sample of the first M draws.
        rtol: asked standard error as a share of the magnitude of the total.
        least: draws of the pilot.
        most: draws at most.
    """
    sample = take(least)
    # The spread of the pilot is itself an estimate: a plan that was too short is
    # followed by another one, made from all draws so far.
    while (count := sample.drawn.shape[1]) < min(sample.wanted(rtol), most):
        sample = take(max(count + 1, math.ceil(min(sample.wanted(rtol), most))))
    return sample


def judged(estimate: Estimate, rtol: float) -> Estimate:
    """An estimate that says whether it meets a relative standard error."""
    met = estimate.stderr <= rtol * abs(estimate.value)
    return dataclasses.replace(estimate, converged=met)


def rooted(square: Estimate) -> Estimate:
    """The square root of a sum of squares, its error to first order."""
    # A sum that is zero may come out below it, by rounding.
    root = math.sqrt(max(0.0, square.value))
    stderr = square.stderr / (2 * root) if root else 0.0
    return dataclasses.replace(square, value=root, stderr=stderr)
