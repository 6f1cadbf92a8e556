"""Penalised gradient norm (PGN): step on the loss plus a multiple of its slope.

Source: Zhao, Zhang, Hu, 2022, arXiv:2202.03599, Algorithm 1.

Differences from the authors' JAX code: its option, on by default, that divides the
first gradient by its norm before the two are mixed is left out, because it mixes a
length of one with a length in the units of the loss and is not in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

from torch.optim import Optimizer

from steppe.geometry import Geometry
from steppe.optimizers.families.ascent import AbstractAscent
from steppe.optimizers.families.gradients import aligned, mix_
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import OptimizerOptions


@OPTIMIZERS.add(
    "pgn",
    source="Zhao et al., 2022, arXiv:2202.03599",
    grad_evals=2,
    limits=(
        Limit(settings={"rho": 0.0}),
        Limit(settings={"alpha": 0.0}),
        Limit(settings={"alpha": 1.0}, equals="sam:rho=0.1"),
    ),
    example={"rho": 0.1, "alpha": 0.8},
)
class PGN(AbstractAscent):
    """Step with a mixture of the clean and the perturbed gradient.

    The gradient of L(w) + lambda ||g(w)|| is g + lambda H g / ||g||; with the Hessian
    product taken as a difference of gradients over the distance rho, and lambda =
    alpha rho, the base steps with

        (1 - alpha) g(w) + alpha g(w + rho g / ||g||).

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: length of the difference, in the units of the parameters (L2 norm over all
            of them together), >= 0, or a schedule of it; the paper's r. 0 gives back
            the base.
        alpha: share of the perturbed gradient, >= 0, or a schedule of it. 0 gives back
            the base, 1 gives SAM; above 1 the penalty is larger than SAM's.
        geometry: of the ascent step, see `steppe.geometry`; None for the L2 ball.
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.
    """

    bounds: ClassVar = {**AbstractAscent.bounds, "alpha": (0.0, math.inf)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule = 0.1,
        alpha: float | Schedule = 0.8,
        geometry: Geometry | None = None,
        **options: Unpack[OptimizerOptions],
    ) -> None:
        super().__init__(
            base, rho=rho, geometry=geometry, settings={"alpha": alpha}, **options
        )

    def plan(self, step: StepContext) -> Plan:
        """Evaluate the clean and the perturbed gradient, then mix."""
        yield FULL_BATCH
        first = step.gradients()
        with self.uphill(step, along=first):
            yield FULL_BATCH
        params, clean, grads = aligned(step, first)
        mix_(grads, clean, [1 - a for a in step.setting("alpha", params)])
