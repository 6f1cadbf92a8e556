"""Sharpness-aware minimisation (SAM): step with the gradient after an ascent step.

Source: Foret, Kleiner, Mobahi, Neyshabur, 2021, arXiv:2010.01412, Equations 2 and 3
with p = 2.

Differences from the authors' JAX code: weight decay belongs to the base and acts at the
unperturbed weights only; a zero gradient gives no perturbation instead of NaN; the two
passes draw different dropout masks unless `rng="replay"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import ClassVar, Unpack

from torch.optim import Optimizer

from steppe.geometry import Geometry
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.registry.bounds import at_least
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FINAL_GRADIENT, FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions


@OPTIMIZERS.add(
    "sam",
    source="Foret et al., 2021, arXiv:2010.01412",
    grad_evals=2,
    limits=(Limit(settings={"rho": 0.0}),),
    example={"rho": 0.05},
)
class SAM(AbstractAscent):
    """Step with the gradient at the worst point of a ball around the weights.

    With g the gradient at the weights w, joined over all parameters, the base steps
    with the gradient at w + rho g / ||g||.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius of the ball, in the units of the parameters (L2 norm over all of
            them together), >= 0, or a schedule of it. 0 gives back the base.
        ascent_steps: n >= 1; with more than one, n ascent steps of rho / n follow the
            gradient, and a step costs n + 1 gradient evaluations.
        geometry: the ball, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.

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

    bounds: ClassVar = {**AbstractAscent.bounds, "ascent_steps": at_least(1)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.05,
        ascent_steps: int = 1,
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        fixed = {"ascent_steps": ascent_steps}
        super().__init__(base, rho=rho, geometry=geometry, fixed=fixed, **options)
        self.ascent_steps = ascent_steps

    def plan(self, step: StepContext) -> Plan:
        """Take an ascent step along the gradient, and evaluate the perturbed one."""
        yield FULL_BATCH
        with ExitStack() as climb:
            for k in range(self.ascent_steps):
                climb.enter_context(self.uphill(step, share=1.0 / self.ascent_steps))
                yield FINAL_GRADIENT if k == self.ascent_steps - 1 else FULL_BATCH
