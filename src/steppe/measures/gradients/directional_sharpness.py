"""Directional sharpness: the curvature of the mean loss along its gradient.

Source: Pan and Li, 2023, arXiv:2306.00204, along the gradient, where it
says by how much a step of gradient descent falls short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.gradients import LossGradient, nonzero_gradient
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.parameters import flatten
from steppe.results import Estimate
from steppe.vectors import joint_norm


@MEASURES.add(
    "directional_sharpness",
    source="Pan and Li, 2023, arXiv:2306.00204",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("gradient", "Hessian"),
    cost=Cost(gradients=2, products=1),
)
@dataclass(frozen=True, kw_only=True)
class DirectionalSharpness(AbstractMeasure):
    """Directional sharpness: g'Hg / |g|^2 along the gradient g of the mean loss.

    At most the largest eigenvalue of the Hessian H, and negative where the loss bends
    down. Gradient and Hessian have the penalty of the objective.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The gradient and the Hessian."""
        return [LossGradient(), HessianOfLoss()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply once; nothing is drawn."""
        gradient = nonzero_gradient(measurement)
        # Of norm 1 first: the square of a small gradient may underflow.
        along = flatten(gradient) / joint_norm(gradient)
        product = measurement.of(HessianOfLoss()) @ along
        return Estimate(value=float(along.double() @ product.double()))
