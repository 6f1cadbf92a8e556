"""Surrogate gap guided SAM (GSAM): SAM that also lowers the gap it measures.

Source: Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu, 2022,
arXiv:2203.08065, Algorithm 1.

Differences from the authors' PyTorch code: the radius and the learning rate of a step
belong to the same step (`steppe.schedules.published_gsam` has the authors' order);
weights come back bit for bit; a zero gradient has no projection. The form that
minimises the clean loss is that of the authors' JAX code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Unpack

import torch
from torch.optim import Optimizer

from steppe.errors import check_choice
from steppe.geometry import Geometry
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.optimizers.families.gradients import (
    add_,
    aligned,
    cosine_and_norms,
    nonzero,
    times_,
)
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions


@OPTIMIZERS.add(
    "gsam",
    source="Zhuang et al., 2022, arXiv:2203.08065",
    grad_evals=2,
    limits=(
        Limit(settings={"alpha": 0.0}, equals="sam:rho=0.05"),
        Limit(settings={"alpha": 0.0, "minimize": "clean"}),
    ),
    example={"rho": 0.05, "alpha": 0.4},
)
class GSAM(AbstractAscent):
    """SAM's gradient minus a multiple of the clean one's part orthogonal to it.

    With g the gradient at the weights and g_p the one at w + rho g / ||g||, joined over
    all parameters, the base steps with

        g_p - alpha (g - <g, g_p> / ||g_p||^2 g_p).

    The second term raises the clean loss along a direction that leaves the
    perturbed loss alone, to first order: the gap between the two closes. A step keeps
    two copies of the parameters: their backup and the first gradient.

    `metrics()` holds "perturbed_cosine", the cosine between g and g_p.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it; the authors let it follow the
            learning rate, as `steppe.schedules.Proportional` does.
        alpha: weight of the orthogonal part, >= 0, or a schedule of it. 0 gives SAM;
            the authors tune it in 0.1 to 0.7 for vision transformers.
        minimize: "perturbed" as above, or "clean" for g + alpha (g_p - <g, g_p> /
            ||g||^2 g), whose second term closes the gap at a constant clean loss; with
            it an alpha of 0 gives the base.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.
    """

    bounds: ClassVar = {**AbstractAscent.bounds, "alpha": (0.0, math.inf)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.05,
        alpha: float | Schedule = 0.4,
        minimize: Literal["perturbed", "clean"] = "perturbed",
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        check_choice("minimize", minimize, ("perturbed", "clean"))
        super().__init__(
            base, rho=rho, geometry=geometry, settings={"alpha": alpha}, **options
        )
        self.minimize = minimize

    def plan(self, step: StepContext) -> Plan:
        """Evaluate the clean and the perturbed gradient; split one along the other."""
        yield FULL_BATCH
        first = step.gradients()
        with self.uphill(step, along=first):
            yield FULL_BATCH
        params, clean, grads = aligned(step, first)
        alpha = step.setting("alpha", params)
        cosine, norm, norm_uphill = cosine_and_norms(clean, grads)
        step.metrics.note("perturbed_cosine", cosine)
        if self.minimize == "perturbed":
            times_(grads, cosine * norm / nonzero(norm_uphill), alpha, offset=1.0)
            add_(grads, clean, [-a for a in alpha])
        else:
            shrink = [-a for a in alpha]
            times_(clean, cosine * norm_uphill / nonzero(norm), shrink, offset=1.0)
            torch._foreach_mul_(grads, alpha)
            torch._foreach_add_(grads, clean)
