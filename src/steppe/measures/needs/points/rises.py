"""The noise on the weights that raises the mean loss by a given amount.

Shape letters: M random draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from steppe.errors import SteppeError, UsageError
from steppe.linalg.crossing import crossing
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.points.perturbed import RandomPoint, Scale, point_scales
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.noise import GaussianNoise
from steppe.parameters import flatten

LOWEST, HIGHEST = 1e-12, 100.0  # standard deviations that are looked at
PROBES = 3  # draws whose curvature says where to begin
UNKNOWN = 0.01  # the beginning where the curvature is not known, or negative
TOL = 0.01  # of the rise, as a share; a secant goes the rest of the way
# Of the published search:
FIRST, LEAST, PUBLISHED_TOL = 1e-3, 5e-324, 1e-6


class NoiseLevel(NamedTuple):
    """A standard deviation with the error over the draws."""

    sigma: float
    stderr: float
    evaluations: int  # standard deviations that were looked at
    converged: bool


@dataclass(frozen=True)
class NoiseOfRise(Need[NoiseLevel]):
    """Standard deviation of the noise at which the mean loss rises by eps.

    Args:
        eps: the rise.
        samples: number of draws M, at least 2.
        scale: of the noise; see `RandomPoint`.
        variant: "correct" takes the same draws at every deviation, "published" takes
            new ones.
    """

    kind: ClassVar[str] = "noise of a rise"

    eps: float
    samples: int
    scale: Scale
    variant: Variant

    def serve(self, measurement: Measurement) -> NoiseLevel:
        """Search.

        Raises:
            UsageError: no deviation between 1e-12 and 100 does.
        """
        if self.variant == "published":
            return self._published(measurement)
        met = crossing(
            lambda sigma: float(self._rises(measurement, sigma).mean()),
            self.eps,
            self._start(measurement),
            low=LOWEST,
            high=HIGHEST,
            tol=TOL,
        )
        if met.at in (0, math.inf):
            side = "more" if met.at == 0 else "less"
            raise UsageError(
                f"the standard deviation of noise that raises the mean loss by "
                f"eps={self.eps:g} must be between {LOWEST:g} and {HIGHEST:g}, but "
                f"{met.last:g} raises it by {side}; give a "
                f"{'larger' if met.at == 0 else 'smaller'} eps."
            )
        rises = self._rises(measurement, met.last)
        return NoiseLevel(
            sigma=met.at,
            stderr=self._error(rises, met.at, met.slope),
            evaluations=met.evaluations,
            converged=met.converged,
        )

    def _rises(self, measurement: Measurement, sigma: float, first: int = 0) -> Tensor:
        """Of the loss at M points, shape (M,)."""
        terms = measurement.of(LossTerms())
        base = measurement.objective.value_of(terms).value
        points = [
            RandomPoint(first + draw, sigma, self.scale) for draw in range(self.samples)
        ]
        losses = [point.loss for point in measurement.of_all(points)]
        return torch.tensor(losses, dtype=torch.float64, device="cpu") - base

    def _error(self, rises: Tensor, sigma: float, slope: float) -> float:
        """By the delta method: errors of the mean rise over its slope."""
        error = float(rises.std()) / math.sqrt(self.samples)
        return sigma * error / (slope * abs(float(rises.mean())))

    def _start(self, measurement: Measurement) -> float:
        """sqrt(2 eps / tr H), with a trace from some of the same draws."""
        params = measurement.objective.params
        scales = point_scales(measurement.objective, self.scale)
        try:
            hessian = measurement.of(HessianOfLoss())
            draws = [
                flatten(
                    GaussianNoise(
                        params=params,
                        generator=measurement.stream("perturbation", draw),
                        scales=scales,
                    ).draw()
                )
                for draw in range(min(PROBES, self.samples))
            ]
            z = torch.stack(draws, dim=1)
            trace = float((z * (hessian @ z)).sum()) / len(draws)
        except SteppeError:  # second derivatives that the network does not allow
            return UNKNOWN
        if not 0 < trace < math.inf:
            return UNKNOWN
        return math.sqrt(2 * self.eps / trace)

    def _published(self, measurement: Measurement) -> NoiseLevel:
        low, high, sigma = LEAST, HIGHEST, FIRST
        evaluations = 0
        while True:
            first = evaluations * self.samples
            rises = self._rises(measurement, sigma, first)
            evaluations += 1
            off = float(rises.mean()) - self.eps
            if abs(off) <= PUBLISHED_TOL or abs(high - low) < PUBLISHED_TOL:
                # As at a minimum, where a rise is that of sigma^2.
                stderr = self._error(rises, sigma, 2.0)
                return NoiseLevel(sigma, stderr, evaluations, True)
            if off < 0:
                low = sigma
            else:  # also where the rise is not finite
                high = sigma
            sigma = (low + high) / 2
