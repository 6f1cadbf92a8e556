"""Weighted SAM (WSAM): the sharpness as a penalty with a weight of its own.

Source: Yue, Jiang, Ye, Gao, Liu, Zhang, 2023, arXiv:2305.15817, the loss L + gamma /
(1 - gamma) (L_SAM - L) and its decoupled update.

Differences from the authors' code: gradients are not clipped unless the caller clips,
and then only what the base steps with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Unpack

import torch
from torch.optim import Optimizer

from steppe.errors import SettingError, check_choice
from steppe.geometry import Geometry
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.optimizers.families.gradients import aligned, mix_
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import AFTER_STEP, FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions
from steppe.vectors import joint_norm


@OPTIMIZERS.add(
    "wsam",
    source="Yue et al., 2023, arXiv:2305.15817",
    grad_evals=2,
    limits=(
        Limit(settings={"rho": 0.0}),
        Limit(settings={"gamma": 0.0}),
        Limit(settings={"gamma": 0.0, "form": "coupled"}),
        Limit(settings={"gamma": 0.5, "form": "coupled"}, equals="sam:rho=0.05"),
    ),
    example={"rho": 0.05, "gamma": 0.9},
)
class WSAM(AbstractAscent):
    """Step on the loss plus gamma / (1 - gamma) times its sharpness.

    With g the gradient at the weights, g_p the one at w + rho g / ||g|| and
    a = gamma / (1 - gamma), the base steps with g, and then

        w <- w - lr a (g_p - g),

    so that momentum and preconditioning see the loss alone. `step()` of this optimizer
    is needed, not the base's.

    Args:
        base: the optimizer that takes the step, or several that share one norm; its
            groups have a learning rate.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it. 0 gives back the base.
        gamma: weight of the sharpness in [0, 0.99], or a schedule of it. 0 gives back
            the base, 0.5 a weight of one, which is SAM's; the paper has 0.8 to 0.95.
        form: "decoupled" as above, or "coupled": the base steps with (1 - a) g + a g_p.
            For SGD without momentum the two are the same.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`. The decoupled form adds gradients to
            weights: with a `GradScaler` give it as `scaler`.
    """

    bounds: ClassVar = {**AbstractAscent.bounds, "gamma": (0.0, 0.99)}
    scale_free: ClassVar = False

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.05,
        gamma: float | Schedule = 0.9,
        form: Literal["decoupled", "coupled"] = "decoupled",
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        check_choice("form", form, ("decoupled", "coupled"))
        super().__init__(
            base, rho=rho, geometry=geometry, settings={"gamma": gamma}, **options
        )
        self.form = form
        if form == "decoupled" and not all("lr" in g for g in self.param_groups):
            raise SettingError(
                "the decoupled form of WSAM steps with the learning rate of its base, "
                "but a parameter group has no lr; take form='coupled'."
            )

    def plan(self, step: StepContext) -> Plan:
        """Evaluate both gradients; mix them, or follow their difference afterwards."""
        yield FULL_BATCH
        first = step.gradients()
        with self.uphill(step, along=first):
            yield FULL_BATCH
        params, clean, grads = aligned(step, first)
        share = [gamma / (1 - gamma) for gamma in step.setting("gamma", params)]
        if self.form == "coupled":
            mix_(grads, clean, [1 - a for a in share])
            return
        torch._foreach_sub_(grads, clean)
        step.require_finite(joint_norm(grads))
        for p, grad in zip(params, clean, strict=True):
            p.grad = grad
        yield AFTER_STEP
        self._gradient_sync.average_(grads)
        rates = step.setting("lr", params)
        torch._foreach_mul_(grads, [-r * a for r, a in zip(rates, share, strict=True)])
        torch._foreach_add_(params, grads)
