"""Norm of the gradient of the mean loss.

Source: Zhao et al., 2022, arXiv:2202.03599, who add it to the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.gradients import LossGradient
from steppe.results import Estimate
from steppe.vectors import joint_norm


@MEASURES.add(
    "gradient_norm",
    source="Zhao et al., 2022, arXiv:2202.03599",
    units="loss per parameter",
    invariant_to=("unit_permutation",),
    needs=("gradient",),
    cost=Cost(gradients=1),
)
@dataclass(frozen=True, kw_only=True)
class GradientNorm(AbstractMeasure):
    """Norm of the gradient of the mean loss: its slope in the steepest direction.

    It is that of the data given, with the penalty of the objective. As an estimate for
    other samples it is too large, by the noise of the gradient; `noise_scale` takes
    that noise off.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The gradient."""
        return [LossGradient()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Take the norm; nothing is drawn."""
        return Estimate(value=float(joint_norm(measurement.of(LossGradient()))))
