"""Friendly SAM (F-SAM): ascent step along the stochastic part of the gradient.

Source: Li, Zhou, He, Cheng, Huang, 2024, arXiv:2403.12350, Algorithm 1, with the order
of the authors' code: the first perturbation is SAM's and starts the average, later ones
subtract the average of the steps before. The paper subtracts the average that holds the
present gradient already; for sigma = 1 both ascend in the same direction.

Differences from the authors' code: weights come back bit for bit; the average is saved
with the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor
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
    "fsam",
    source="Li et al., 2024, arXiv:2403.12350",
    grad_evals=2,
    limits=(
        Limit(settings={"rho": 0.0}),
        Limit(settings={"rho": 0.05, "sigma": 0.0}, equals="sam:rho=0.05"),
    ),
    example={"rho": 0.05},
)
class FSAM(AbstractAscent):
    """SAM whose ascent step follows the gradient minus its running mean.

    With g the gradient at the weights w and m its running mean over earlier steps, the
    base steps with the gradient at w + rho u / ||u||, u = g - sigma m; then
    m becomes lmbda m + (1 - lmbda) g. The first step has m = g afterwards.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters, >= 0, or a schedule of
            it. 0 gives back the base.
        sigma: how much of the mean is taken out, >= 0, or a schedule of it. 0 gives
            back SAM.
        lmbda: share of the mean that a step keeps, in [0, 1], or a schedule of it; the
            authors use 0.6 to 0.95.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`. Every loop of `accumulate=True` counts
            as a step of the mean.
    """

    bounds: ClassVar = {
        "rho": (0.0, math.inf),
        "sigma": (0.0, math.inf),
        "lmbda": (0.0, 1.0),
    }
    scale_free: ClassVar = False

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.05,
        sigma: float | Schedule = 1.0,
        lmbda: float | Schedule = 0.9,
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        own = {"sigma": sigma, "lmbda": lmbda}
        super().__init__(base, rho=rho, geometry=geometry, settings=own, **options)

    def plan(self, step: StepContext) -> Plan:
        """Take an ascent step along the gradient minus its mean; evaluate there."""
        yield FULL_BATCH
        params, grads = step.with_grad()
        mean = step.method_state.get(MEAN, params)
        peculiar = _without(mean, grads, step.setting("sigma", params))
        fresh = [1 - keep for keep in step.setting("lmbda", params)]
        renewed_mean(step, MEAN, params, grads, fresh)
        del grads
        with self.uphill(step, along=dict(zip(params, peculiar, strict=True))):
            del peculiar
            yield FINAL_GRADIENT


def _without(
    mean: list[Tensor], grads: list[Tensor], sigma: Sequence[float]
) -> list[Tensor]:
    """The gradients with sigma times the mean taken out."""
    if not grads:
        return []
    peculiar = list(torch._foreach_mul(mean, [-s for s in sigma]))
    torch._foreach_add_(peculiar, grads)
    return peculiar
