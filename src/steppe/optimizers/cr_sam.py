"""Curvature regularised SAM (CR-SAM): SAM with a penalty on curvature and slope.

Source: Wu, Luo, Wunsch, 2023, arXiv:2312.13555, and the update of the authors' code.

The paper adds the trace of the Hessian, normalised by the length of the gradient, to
SAM's loss, and takes both as finite differences along the gradient. The authors' code
adds the gradients of these two differences, each with a weight of its own, and so does
this: it lowers the curvature along the gradient and the slope, not their ratio.

Differences from the authors' code: weights come back bit for bit; with a model, running
statistics are those of the first pass, not of the last one too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch.optim import Optimizer

from steppe.geometry import Geometry
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.optimizers.families.gradients import aligned
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions


@OPTIMIZERS.add(
    "cr_sam",
    source="Wu et al., 2023, arXiv:2312.13555",
    grad_evals=3,
    limits=(
        Limit(settings={"rho": 0.0, "gamma": 0.0, "beta": 0.0}),
        Limit(settings={"gamma": 0.0, "beta": 0.0}, equals="sam:rho=0.1"),
    ),
    example={"rho": 0.1, "gamma": 0.1, "beta": 0.01},
)
class CRSAM(AbstractAscent):
    """Step with SAM's gradient and those of curvature and slope along the ascent.

    With d = rho g / ||g|| held fixed, the base steps with the gradient of

        L(w + d) + gamma (L(w + d) + L(w - d) - 2 L(w)) + beta (L(w + d) - L(w - d)).

    The second term is rho^2 times the curvature along the gradient, the third 2 rho
    times the length of the gradient. On a quadratic the second has no gradient, and the
    step is SAM's with the radius (1 + 2 beta) rho.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it.
        gamma: weight of the curvature, >= 0, or a schedule of it.
        beta: weight of the slope, >= 0, or a schedule of it. With gamma = 0, 0 gives
            SAM.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.
    """

    bounds: ClassVar = {
        **AbstractAscent.bounds,
        "gamma": (0.0, math.inf),
        "beta": (0.0, math.inf),
    }

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.1,
        gamma: float | Schedule = 0.1,
        beta: float | Schedule = 0.01,
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        own = {"gamma": gamma, "beta": beta}
        super().__init__(base, rho=rho, geometry=geometry, settings=own, **options)

    def plan(self, step: StepContext) -> Plan:
        """Evaluate the clean gradient and those on both sides along it; add them up."""
        yield FULL_BATCH
        first = step.gradients()
        with self.uphill(step, along=first):
            yield FULL_BATCH
        second = step.gradients()
        with self.uphill(step, along=first, share=-1.0):
            yield FULL_BATCH
        params, clean, up, down = aligned(step, first, second)
        gamma, beta = (step.setting(name, params) for name in ("gamma", "beta"))
        both = list(zip(gamma, beta, strict=True))
        torch._foreach_mul_(clean, [-2 * c for c in gamma])
        torch._foreach_mul_(up, [1 + c + b for c, b in both])
        torch._foreach_mul_(down, [c - b for c, b in both])
        torch._foreach_add_(down, up)
        torch._foreach_add_(down, clean)
