"""Momentum-SAM (MSAM): step with the gradient ahead along the base's momentum.

Source: Becker, Altrock, Risse, 2024, arXiv:2401.12033: w - rho v / ||v||, with the
momentum v of SGD or the first moment of Adam.

Differences from the authors' code: the momentum is the base's own, so any base with one
will do; weights are perturbed only inside the passes, so weight decay acts at the
unperturbed weights; the norm runs over all groups; the default radius is that of the
authors' instructions, not the default of their class (0.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError, UsageError
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FINAL_GRADIENT, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS, AbstractOptimizer
from steppe.stepping.options import OptimizerOptions
from steppe.vectors import joint_norm, scaled_

# What optimizers call their momentum, and what makes it point downhill.
MOMENTA = {"momentum_buffer": -1.0, "exp_avg": -1.0, "displacement": 1.0}
FIX = "give it momentum, such as torch.optim.SGD(..., momentum=0.9) or Adam"


@OPTIMIZERS.add(
    "msam",
    source="Becker et al., 2024, arXiv:2401.12033",
    grad_evals=1,
    limits=(Limit(settings={"rho": 0.0}),),
    example={"rho": 0.3},
    base="momentum",
)
class MSAM(AbstractOptimizer):
    """Step with the gradient at a point of a ball that costs no gradient to find.

    With the momentum v of the base, joined over all parameters, the base steps with the
    gradient at w - rho v / ||v||. With rho = lr momentum ||v|| and SGD this is
    Nesterov's method. The first step is that of the base, which has no momentum yet; a
    parameter without momentum stays where it is.

    Args:
        base: the optimizer that takes the step, or several that share one norm; each
            with momentum: SGD, Adam, Muon and their like.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it. 0 gives back the base.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.

    Raises:
        SettingError: a base whose momentum is 0.
    """

    bounds: ClassVar = {"rho": (0.0, math.inf)}
    looks_first: ClassVar = False

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.3,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(base, settings={"rho": rho}, **options)
        for each in self.bases:
            if all(group.get("momentum") == 0 for group in each.param_groups):
                raise SettingError(
                    f"MSAM climbs along the momentum of its base, but "
                    f"{type(each).__name__} has momentum=0; {FIX}."
                )

    def plan(self, step: StepContext) -> Plan:
        """Go ahead along the momentum, evaluate there, come back."""
        params, ahead = self._downhill(step)
        if not params:
            if step.number and step.perturbed():
                raise UsageError(
                    "MSAM climbs along the momentum of its base, but "
                    f"{self._names()} kept none in its first step; {FIX}."
                )
            yield FINAL_GRADIENT
            return
        norm = joint_norm(ahead)
        deltas = scaled_(ahead, step.setting("rho", params), norm)
        with step.held(params) as here:
            here.add(deltas)
            del ahead, deltas
            yield FINAL_GRADIENT

    def _downhill(self, step: StepContext) -> tuple[list[Tensor], list[Tensor]]:
        """Movable parameters with momentum, and copies of it that point downhill."""
        state = self.state
        momenta: dict[Tensor, Tensor] = {}
        signs: dict[Tensor, float] = {}
        for p in step.perturbed():
            own = state.get(p, {})
            for name, sign in MOMENTA.items():
                if isinstance(own.get(name), Tensor):
                    momenta[p], signs[p] = own[name], sign
        if not momenta:
            return [], []
        ahead = torch._foreach_mul(list(momenta.values()), list(signs.values()))
        return list(momenta), list(ahead)

    def _names(self) -> str:
        return " and ".join(type(base).__name__ for base in self.bases)
