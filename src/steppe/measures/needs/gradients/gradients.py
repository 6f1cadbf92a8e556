"""The gradient of the mean loss, and the loss along it.

Shape letters: D parameters in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.errors import DataError, UsageError
from steppe.measures.measurement import JointNeed, Measurement, Need
from steppe.parameters import displace_, overwrite_, restored
from steppe.vectors import joint_norm


@dataclass(frozen=True)
class LossGradient(Need[list[Tensor]]):
    """Gradient of the mean loss with its penalty, a tensor for each parameter."""

    kind: ClassVar[str] = "gradient"

    def serve(self, measurement: Measurement) -> list[Tensor]:
        """One pass; losses that are random are refused."""
        gradient = measurement.objective.gradient()
        measurement.objective.check_repeatable()
        if not all(bool(g.isfinite().all()) for g in gradient):
            raise DataError(
                "the gradient of the mean loss holds an infinity or NaN; check that the"
                " loss is finite at these parameters and data, or use a wider dtype "
                "such as float64."
            )
        return gradient


def nonzero_gradient(measurement: Measurement) -> list[Tensor]:
    """The gradient of the mean loss, for measures along its direction.

    Raises:
        UsageError: it is zero.
    """
    gradient = measurement.of(LossGradient())
    if not float(joint_norm(gradient)):
        raise UsageError(
            "the gradient of the mean loss must not be zero for a measure along its "
            "direction, got 0; measure at other weights, or take top_eigenvalue, which "
            "needs no gradient."
        )
    return gradient


@dataclass(frozen=True)
class LossAlongGradient(JointNeed[float]):
    """Mean loss after one step of gradient descent.

    Args:
        rate: learning rate of the step, in squared parameters per loss.
    """

    kind: ClassVar[str] = "losses along the gradient"

    rate: float

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Move to each point and back; one forward pass for each."""
        objective = measurement.objective
        gradient = measurement.of(LossGradient())
        losses = []
        with objective.measuring(), restored(objective.params) as centre:
            for need in needs:
                overwrite_(objective.params, centre)
                displace_(objective.params, gradient, -need.rate)
                with torch.no_grad():
                    losses.append(objective.mean_loss())
        objective.cost += Cost(forwards=len(needs))
        return torch.stack(losses).tolist()
