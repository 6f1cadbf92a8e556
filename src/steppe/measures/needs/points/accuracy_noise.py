"""The noise on the weights that moves the error rate by a given amount.

Shape letters: M random draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.errors import SettingError, UsageError
from steppe.linalg.crossing import crossing
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.points.perturbed import RandomPoint, Scale, error_rates
from steppe.measures.needs.points.rises import NoiseLevel

LOWEST, HIGHEST = 1e-9, 1e3  # standard deviations that are looked at
FIRST = 0.1
TOL = 0.1  # of the change, as a share, as published; a secant goes the rest of the way
EVALUATIONS = 30  # standard deviations at most
STEP = 1.2  # factor to both sides, for the slope
LEAST_SLOPE = 0.25
FLOOR = 1e-3  # epsilon of magnitude-aware noise
# Of the published search:
TOP, LEVELS = 2.0, 15


@dataclass(frozen=True)
class NoiseOfErrors(Need[NoiseLevel]):
    """Size of the noise at which the error rate has moved, up or down.

    Args:
        change: of the error rate.
        samples: number of draws M, at least 2.
        magnitude_aware: noise with the variance sigma^2 w^2 + 0.001^2 for a weight w,
            in place of sigma^2 for all.
        variant: "correct" takes the same draws at every size, "published" takes new
            ones of the deviation sigma^2 in a bisection.
    """

    kind: ClassVar[str] = "noise of errors"

    change: float
    samples: int
    magnitude_aware: bool
    variant: Variant

    def serve(self, measurement: Measurement) -> NoiseLevel:
        """Search.

        Raises:
            UsageError: outputs that are no class scores, or an error rate that no noise
                moves so far.
        """
        if self.variant == "published":
            return self._published(measurement)
        step = 1 / (self.samples * measurement.objective.count())
        met = crossing(
            lambda sigma: abs(float(self._changes(measurement, sigma).mean())),
            self.change,
            FIRST,
            low=LOWEST,
            high=HIGHEST,
            # The rate goes in steps, one of which may lead over the level.
            tol=max(TOL, step / self.change),
            max_evaluations=EVALUATIONS,
        )
        if met.at in (0, math.inf) or not math.isfinite(met.at):
            raise UsageError(
                f"noise must move the error rate by change={self.change:g}, but none "
                f"between {LOWEST:g} and {HIGHEST:g} does here; give a smaller change, "
                "or measure a network that fits its data."
            )
        sigma = met.at
        return NoiseLevel(
            sigma, self._error(measurement, sigma), met.evaluations, met.converged
        )

    def _changes(
        self, measurement: Measurement, sigma: float, first: int = 0
    ) -> Tensor:
        """Of the error rate at M points, shape (M,)."""
        floor = FLOOR if self.magnitude_aware else 0.0
        scale: Scale = "adaptive" if self.magnitude_aware else "raw"
        points = [RandomPoint(0, 0.0)]  # the centre
        points += [
            RandomPoint(first + draw, sigma, scale, floor=floor)
            for draw in range(self.samples)
        ]
        rates = error_rates(measurement.of_all(points))
        return rates[1:] - rates[0]

    def _error(self, measurement: Measurement, sigma: float) -> float:
        """By the delta method: the error of the mean change over its slope."""
        changes = self._changes(measurement, sigma)
        error = float(changes.std()) / math.sqrt(self.samples)
        ends = [
            abs(float(self._changes(measurement, sigma * factor).mean()))
            for factor in (1 / STEP, STEP)
        ]
        # d mean / d log sigma, over about the way that one step of sigma takes.
        slope = (ends[1] - ends[0]) / (2 * math.log(STEP))
        return sigma * error / max(slope, LEAST_SLOPE * self.change)

    def _published(self, measurement: Measurement) -> NoiseLevel:
        low, high, sigma, off = 0.0, TOP, 1.0, math.inf
        evaluations = 0
        while evaluations < LEVELS and not abs(off) < TOL * self.change:
            sigma = (low + high) / 2
            first = evaluations * self.samples
            # Its defect: the square stands where a deviation is asked for.
            changes = self._changes(measurement, sigma**2, first)
            off = abs(float(changes.mean())) - self.change
            evaluations += 1
            if off > 0:
                high = sigma
            else:
                low = sigma
        # By the slope of a change that grows like the deviation of the noise, sigma^2.
        stderr = (
            sigma * float(changes.std()) / math.sqrt(self.samples) / self.change / 2
        )
        return NoiseLevel(sigma, stderr, evaluations, abs(off) < TOL * self.change)


def check_variant(variant: str, magnitude_aware: bool) -> None:
    """Refuse a published search for magnitude-aware noise, whose draws are others."""
    if variant == "published" and magnitude_aware:
        raise SettingError(
            "variant='published' must go with magnitude_aware=False, got True; use "
            "variant='correct'."
        )
