"""The loss at random points around the parameters.

Draw number m is the same standard noise for every distance, in every measure and, for
parameters of the same shapes, in every network: differences between them do not have
the noise of the draws.

Shape letters: M random draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.measures.measurement import JointNeed, Measurement
from steppe.noise import filter_noise, gaussian_noise
from steppe.parameters import restored
from steppe.results import Cost

Scale = Literal["filter", "raw"]
NOISES = {"filter": filter_noise, "raw": gaussian_noise}


@dataclass(frozen=True)
class PerturbedLoss(JointNeed[float]):
    """Mean loss at one random point.

    Args:
        draw: number of the draw, from 0.
        sigma: standard deviation of the noise, in units that the scale says.
        scale: "raw" in the units of the parameters, "filter" relative to the norm of
            each filter.
    """

    kind: ClassVar[str] = "perturbed losses"

    draw: int
    sigma: float
    scale: Scale = "raw"

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Move to each point and back; one forward pass for each."""
        losses = around(measurement, needs, measurement.objective.mean_loss)
        measurement.objective.cost += Cost(forwards=len(needs))
        return torch.stack(losses).tolist()


def around(
    measurement: Measurement,
    points: Sequence[PerturbedLoss],
    evaluate: Callable[[], Tensor],
) -> list[Tensor]:
    """Evaluate something at random points around the parameters.

    Args:
        measurement: with the objective and the random streams.
        points: where.
        evaluate: called at each point, inside `measuring()`.
    """
    params = measurement.objective.params
    values = []
    with (
        measurement.objective.measuring(),
        restored(params) as centre,
        torch.no_grad(),
    ):
        for point in points:
            source = measurement.stream("perturbation", point.draw)
            noise = NOISES[point.scale](centre, point.sigma, source)
            # From the centre each time: returning by subtraction adds up rounding.
            noise.put_(params, centre)
            values.append(evaluate())
    return values


def perturbed_losses(
    measurement: Measurement, draws: int, sigma: float, scale: Scale
) -> Tensor:
    """Losses at the first M random points, shape (M,), float64, on the host."""
    points = [PerturbedLoss(draw, sigma, scale) for draw in range(draws)]
    return torch.tensor(measurement.of_all(points), dtype=torch.float64)
