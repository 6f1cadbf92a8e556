"""Variance-suppressed SAM (VaSSO): ascent step along a running mean of gradients.

Source: Li, Giannakis, 2023, arXiv:2309.15639, Algorithm 1; the mean starts with the
first gradient, as in the authors' code.

Differences from the authors' code: the norm runs over the mean of all parameters that
may be moved and have a gradient, with 1e-12 instead of 1e-7 added; weights come back
bit for bit; the mean is saved with the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

from torch.optim import Optimizer

from steppe.geometry import Geometry
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.optimizers.families.gradients import renewed_mean
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FINAL_GRADIENT, FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions

MEAN = "mean_gradient"


@OPTIMIZERS.add(
    "vasso",
    source="Li and Giannakis, 2023, arXiv:2309.15639",
    grad_evals=2,
    limits=(
        Limit(settings={"rho": 0.0}),
        Limit(settings={"rho": 0.05, "theta": 1.0}, equals="sam:rho=0.05"),
    ),
    example={"rho": 0.05},
)
class VaSSO(AbstractAscent):
    """SAM whose ascent step follows a running mean of the gradients.

    With g the gradient at the weights w, the direction d becomes
    (1 - theta) d + theta g, and the base steps with the gradient at w + rho d / ||d||.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters, >= 0, or a schedule of
            it. 0 gives back the base.
        theta: share of the present gradient in the direction, in [0, 1], or a schedule
            of it. 1 gives back SAM; 0 keeps the first direction for good.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`. Every loop of `accumulate=True` counts
            as a step of the mean.
    """

    bounds: ClassVar = {"rho": (0.0, math.inf), "theta": (0.0, 1.0)}
    scale_free: ClassVar = False

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.05,
        theta: float | Schedule = 0.4,
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        own = {"theta": theta}
        super().__init__(base, rho=rho, geometry=geometry, settings=own, **options)

    def plan(self, step: StepContext) -> Plan:
        """Take an ascent step along the mean of the gradients, and evaluate there."""
        yield FULL_BATCH
        params, grads = step.with_grad()
        theta = step.setting("theta", params)
        mean = renewed_mean(step, MEAN, params, grads, theta)
        del grads
        with self.uphill(step, along=dict(zip(params, mean, strict=True))):
            yield FINAL_GRADIENT
