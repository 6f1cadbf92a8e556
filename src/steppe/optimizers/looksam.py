"""LookSAM: SAM on every k-th step, and its orthogonal part reused in between.

Source: Liu, Mai, Chen, Hsieh, You, 2022, arXiv:2203.02714, Algorithm 1.

Differences from published ports: norms and projections run over all parameters
together, as in the paper; steps in between cost one gradient.
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
from steppe.optimizers.families.gradients import (
    aligned,
    cosine_and_norms,
    nonzero,
    times_,
)
from steppe.registry.bounds import at_least
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions
from steppe.vectors import joint_norm

LOOKED = "looked"  # number of completed steps when SAM's gradient was last taken


@OPTIMIZERS.add(
    "looksam",
    source="Liu et al., 2022, arXiv:2203.02714",
    grad_evals=1.2,
    limits=(Limit(settings={"k": 1}, equals="sam:rho=0.1"),),
    example={"rho": 0.1, "alpha": 0.7, "k": 5},
)
class LookSAM(AbstractAscent):
    """Step with SAM's gradient now and then, with an estimate of it otherwise.

    On every k-th step, beginning with the first, the base steps with SAM's gradient
    g_s, and what of it is orthogonal to the clean gradient g is remembered:
    g_v = g_s - <g_s, g> / ||g||^2 g. On the others the base steps with

        g + alpha ||g|| / ||g_v|| g_v.

    A step costs 1 + 1 / k gradients on average. Where nothing is remembered yet, such
    as after loading a state of the base alone, or only what is k steps old, as behind a
    gate, the step is SAM's.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it.
        alpha: length of the remembered part over that of the gradient, >= 0, or a
            schedule of it; with 0 the steps in between are the base's.
        k: steps from one of SAM's to the next, >= 1. 1 gives SAM.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`. With `accumulate=True` the part of the
            last micro-batch is remembered, with several processes each one's own.
    """

    bounds: ClassVar = {
        **AbstractAscent.bounds,
        "alpha": (0.0, math.inf),
        "k": at_least(1),
    }

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.1,
        alpha: float | Schedule = 0.7,
        k: int = 5,
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(
            base,
            rho=rho,
            geometry=geometry,
            settings={"alpha": alpha},
            fixed={"k": k},
            **options,
        )
        self.k = k

    def plan(self, step: StepContext) -> Plan:
        """Evaluate the perturbed gradient and keep its orthogonal part, or reuse it."""
        yield FULL_BATCH
        first = step.gradients()
        if not self._looks(step):
            self._add_sideways(step, first)
            return
        step.method_state.numbers[LOOKED] = step.number
        with self.uphill(step, along=first):
            yield FULL_BATCH
        params, clean, grads = aligned(step, first)
        cosine, norm, norm_uphill = cosine_and_norms(clean, grads)
        share = cosine * norm_uphill / nonzero(norm)
        times_(clean, share, [-1.0] * len(params), offset=0.0)
        step.method_state.stage(
            "sideways", params, list(torch._foreach_add(clean, grads))
        )

    def _looks(self, step: StepContext) -> bool:
        """Whether this step is SAM's; so are all micro-batches of a step that is."""
        number, known = step.number, step.method_state.has("sideways")
        looked = step.method_state.numbers.get(LOOKED, number - number % self.k)
        return not known or number % self.k == 0 or not 0 < number - looked < self.k

    def _add_sideways(self, step: StepContext, first: dict[Tensor, Tensor]) -> None:
        params, grads = list(first), list(first.values())
        sideways = [s.clone() for s in step.method_state.get("sideways", params)]
        ratio = joint_norm(grads) / nonzero(joint_norm(sideways))
        times_(sideways, ratio, step.setting("alpha", params), offset=0.0)
        torch._foreach_add_(grads, sideways)
