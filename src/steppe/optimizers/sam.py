"""Sharpness-aware minimisation (SAM): step with the gradient found uphill.

Source: Foret, Kleiner, Mobahi, Neyshabur, 2021, arXiv:2010.01412, Equations 2 and 3
with p = 2.

Differences from the authors' JAX code: weight decay belongs to the base and acts at the
unperturbed weights only; a zero gradient gives no perturbation instead of NaN; the two
passes draw different dropout masks unless `rng="replay"`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn
from torch.optim import Optimizer

from steppe.perturb import ascent_
from steppe.registry import Limit
from steppe.schedules import Schedule
from steppe.stepping import OPTIMIZERS, AbstractOptimizer
from steppe.weights import WHOLE, Plan, Weights


@OPTIMIZERS.add(
    "sam",
    source="Foret et al., 2021, arXiv:2010.01412",
    grad_evals=2,
    limits=(Limit(settings={"rho": 0.0}),),
    example={"rho": 0.05},
)
class SAM(AbstractOptimizer):
    """Step with the gradient at the worst point of a ball around the weights.

    With g the gradient at the weights w, joined over all parameters, the base steps
    with the gradient at w + rho g / ||g||.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it. 0 gives back the base.
        model: switches on the policy for running statistics.
        batch_norm: "first" keeps the statistics of the pass at the unperturbed weights
            (as the authors' code), "all" those of both passes.
        rng: "fresh" or "replay", the dropout masks of the second pass.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.tensor([3.0]))
        >>> opt = SAM(torch.optim.SGD([w], lr=0.1), rho=1.0)
        >>> for _ in opt.passes():
        ...     (w**2 / 2).sum().backward()
        >>> opt.step()
        >>> round(w.item(), 6)  # 3 - 0.1 (3 + 1)
        2.6
    """

    bounds: ClassVar = {"rho": (0.0, math.inf)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.05,
        model: nn.Module | None = None,
        batch_norm: Literal["first", "all"] | None = None,
        rng: Literal["fresh", "replay"] = "fresh",
    ) -> None:
        super().__init__(
            base, settings={"rho": rho}, model=model, batch_norm=batch_norm, rng=rng
        )

    def plan(self, weights: Weights) -> Plan:
        """Climb rho along the gradient, evaluate there, come back."""
        yield WHOLE
        params, grads = weights.with_grad()
        uphill, norm = ascent_(grads, weights.setting("rho", params))
        weights.watch(norm)
        with weights.moved(params, uphill):
            yield WHOLE
