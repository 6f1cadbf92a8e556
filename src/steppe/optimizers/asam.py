"""Adaptive sharpness-aware minimisation (ASAM): SAM in units of the weights.

Source: Kwon, Kim, Park, Choi, 2021, arXiv:2102.11600, Equation 7 with p = 2 and the
element-wise operator T = |w| + eta.

Differences from the authors' code: tensors with at most one dimension (biases and
normalisation weights) have T = 1; the authors' code scales normalisation weights, which
it tells from biases by their name. The denominator holds 1e-12 instead of 1e-16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Unpack

from torch.optim import Optimizer

from steppe.geometry import Adaptive
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FINAL_GRADIENT, FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions


@OPTIMIZERS.add(
    "asam",
    source="Kwon et al., 2021, arXiv:2102.11600",
    grad_evals=2,
    limits=(Limit(settings={"rho": 0.0}),),
    example={"rho": 0.5},
)
class ASAM(AbstractAscent):
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
        style: which parameters are scaled and how: four forms, see
            `steppe.geometry.Adaptive`.
        p: "2", or "inf" for rho T sign(g).
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.
    """

    bounds: ClassVar = {**AbstractAscent.bounds, **Adaptive.in_groups}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.5,
        eta: float | Schedule = 0.01,
        style: Literal["matrices", "samsung", "davda54", "bigvision"] = "matrices",
        p: Literal["2", "inf"] = "2",
        **options: Unpack[OptimizerOptions],
    ) -> None:
        geometry = Adaptive(eta=eta, style=style, p=p)
        super().__init__(base, rho=rho, geometry=geometry, **options)

    def plan(self, step: StepContext) -> Plan:
        """Take an ascent step in units of the weights; evaluate the perturbed one."""
        yield FULL_BATCH
        with self.uphill(step):
            yield FINAL_GRADIENT
