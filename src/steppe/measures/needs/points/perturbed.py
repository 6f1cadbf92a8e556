"""Loss and error rate at random points around the parameters.

Draw number m is the same standard noise for every distance, in every measure and, for
parameters of the same shapes, in every network: differences between them do not have
the noise of the draws.

Shape letters: M random draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from steppe.errors import SteppeError, UsageError
from steppe.measures.measurement import JointNeed, Measurement
from steppe.measures.needs.outputs.outputs import mistakes
from steppe.measuring.evaluation import Evaluation
from steppe.noise import BoxNoise, GaussianNoise, ScaledNoise, filter_scales
from steppe.objective import Objective
from steppe.parameters import restored
from steppe.results import Cost
from steppe.symmetries.balancing import balancing_scales

Value = TypeVar("Value")

Scale = Literal["raw", "filter", "balanced", "adaptive"]
Distribution = Literal["gaussian", "uniform"]
NOISES: dict[str, type[ScaledNoise]] = {"gaussian": GaussianNoise, "uniform": BoxNoise}


class PointValues(NamedTuple):
    """The network at a point."""

    loss: float  # mean, with the penalty
    error_rate: float  # share of the loss terms whose class is not the best scored one
    refusal: str = ""  # why there is no error rate; it is NaN then


@dataclass(frozen=True)
class RandomPoint(JointNeed[PointValues]):
    """Loss and error rate at one random point, from one forward pass.

    Args:
        draw: number of the draw, from 0.
        sigma: size of the noise in units of the scale: the standard deviation of
            Gaussian noise, half the width of uniform noise.
        scale: "raw" in the units of the parameters, "filter" relative to the norm of
            each filter, "balanced" relative to that of each filter with its bias
            (`balancing_scales`), "adaptive" relative to each weight.
        noise: "gaussian" or "uniform".
        floor: size that a scaled one is joined by in squares, in the units of the
            parameters, so that weights of zero are moved, too.
    """

    kind: ClassVar[str] = "perturbed losses"

    draw: int
    sigma: float
    scale: Scale = "raw"
    noise: Distribution = "gaussian"
    floor: float = 0.0

    def sizes(self, scales: Sequence[Any]) -> list[Any]:
        """Size of the noise for each parameter, a number or a tensor.

        Args:
            scales: of the parameters.
        """
        sizes = [self.sigma * scale for scale in scales]
        return [(s**2 + self.floor**2) ** 0.5 for s in sizes] if self.floor else sizes

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Move to each point and back; one forward pass for each."""
        objective = measurement.objective
        values = around(measurement, needs, lambda: point_values(objective))
        objective.cost += Cost(forwards=len(needs))
        return values


def around(
    measurement: Measurement,
    points: Sequence[RandomPoint],
    evaluate: Callable[[], Value],
) -> list[Value]:
    """Evaluate something at random points around the parameters.

    Args:
        measurement: with the objective and the random streams.
        points: where.
        evaluate: called at each point, inside `measuring()`.
    """
    objective = measurement.objective
    params = objective.params
    scales = {
        scale: point_scales(objective, scale)
        for scale in dict.fromkeys(point.scale for point in points)
    }
    values = []
    with objective.measuring(), restored(params) as centre, torch.no_grad():
        for point in points:
            source = measurement.stream("perturbation", point.draw)
            noise = NOISES[point.noise](
                params=centre,
                generator=source,
                scales=point.sizes(scales[point.scale]),
            )
            # From the centre each time: returning by subtraction adds up rounding.
            noise.put_(params, centre)
            values.append(evaluate())
    return values


@torch.no_grad()
def point_scales(objective: Objective, scale: Scale) -> list[Any]:
    """Numbers or tensors, one for each parameter, that noise of size 1 is scaled by."""
    match scale:
        case "raw":
            return [1.0] * len(objective.params)
        case "filter":
            return [*filter_scales(objective.params)]
        case "balanced":
            return [*balancing_scales(objective.model, objective.params)]
        case "adaptive":
            return [p.abs() for p in objective.params]


def point_values(objective: Objective) -> PointValues:
    """Loss and error rate at the present parameters, inside `measuring()`."""
    sums: list[Tensor] = []
    wrong: list[Tensor] = []
    refusals: list[str] = []
    terms = 0

    def visit(evaluation: Evaluation) -> None:
        nonlocal terms
        sums.append(evaluation.losses.double().sum())
        terms += evaluation.losses.numel()
        if refusals:
            return
        try:
            wrong.append(mistakes(evaluation, objective).sum())
        except SteppeError as error:
            refusals.append(str(error))

    objective.run(visit)
    loss = float(torch.stack(sums).sum() / terms + objective.penalty_value())
    if refusals:
        return PointValues(loss, math.nan, refusals[0])
    return PointValues(loss, int(torch.stack(wrong).sum()) / terms)


def perturbed_losses(
    measurement: Measurement,
    draws: int,
    sigma: float,
    scale: Scale = "raw",
    noise: Distribution = "gaussian",
) -> Tensor:
    """Losses at the first M random points, shape (M,), float64, on the host."""
    points = measurement.of_all(
        [RandomPoint(draw, sigma, scale, noise) for draw in range(draws)]
    )
    return torch.tensor(
        [point.loss for point in points], dtype=torch.float64, device="cpu"
    )


def error_rates(values: Sequence[PointValues]) -> Tensor:
    """Error rates at M points, shape (M,), float64, on the host.

    Raises:
        UsageError: outputs that are no class scores.
    """
    for value in values:
        if value.refusal:
            raise UsageError(value.refusal)
    return torch.tensor(
        [value.error_rate for value in values], dtype=torch.float64, device="cpu"
    )
