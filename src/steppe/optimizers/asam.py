"""Adaptive sharpness-aware minimisation (ASAM): SAM in units of the weights.

Source: Kwon, Kim, Park, Choi, 2021, arXiv:2102.11600, Equation 7 with p = 2 and the
element-wise operator T = |w| + eta.

Differences from the authors' code: tensors with at most one dimension (biases and
normalisation weights) have T = 1; the authors' code scales normalisation weights, which
it tells from biases by their name. The denominator holds 1e-12 instead of 1e-16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn
from torch.optim import Optimizer

from steppe.perturb import adaptive_ascent_
from steppe.registry import Limit
from steppe.schedules import Schedule
from steppe.stepping import OPTIMIZERS, AbstractOptimizer
from steppe.weights import WHOLE, Plan, Weights


@OPTIMIZERS.add(
    "asam",
    source="Kwon et al., 2021, arXiv:2102.11600",
    grad_evals=2,
    limits=(Limit(settings={"rho": 0.0}),),
    example={"rho": 0.5},
)
class ASAM(AbstractOptimizer):
    """Step with the gradient at the worst point of a ball scaled by the weights.

    With T = |w| + eta, the base steps with the gradient at
    w + rho T^2 g / ||T g||; rescaling that leaves a ReLU network's function unchanged
    leaves the perturbed function unchanged too, up to eta.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius relative to the weights, >= 0, or a schedule of it. 0 gives back
            the base. About ten times SAM's.
        eta: added to |w|, in the units of the parameters, >= 0; keeps zero weights
            movable.
        model: switches on the policy for running statistics.
        batch_norm: "first" keeps the statistics of the pass at the unperturbed weights,
            "all" those of both passes.
        rng: "fresh" or "replay", the dropout masks of the second pass.
    """

    bounds: ClassVar = {"rho": (0.0, math.inf), "eta": (0.0, math.inf)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.5,
        eta: float | Schedule = 0.01,
        model: nn.Module | None = None,
        batch_norm: Literal["first", "all"] | None = None,
        rng: Literal["fresh", "replay"] = "fresh",
    ) -> None:
        super().__init__(
            base,
            settings={"rho": rho, "eta": eta},
            model=model,
            batch_norm=batch_norm,
            rng=rng,
        )

    def plan(self, weights: Weights) -> Plan:
        """Climb in the units of the weights, evaluate there, come back."""
        yield WHOLE
        params, grads = weights.with_grad()
        rho = weights.setting("rho", params)
        eta = weights.setting("eta", params)
        uphill, norm = adaptive_ascent_(params, grads, rho, eta)
        weights.watch(norm)
        with weights.moved(params, uphill):
            yield WHOLE
