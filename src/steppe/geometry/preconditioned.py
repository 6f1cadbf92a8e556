"""An ellipsoid with the axes of Adam: long where gradients have been small.

Source: Singh, Mobahi, Agarwala, Dauphin, 2025, arXiv:2502.02407 (preconditioned SAM);
the normalisation and the unit of the radius are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.geometry.abstract import GEOMETRIES, Geometry
from steppe.registry.bounds import Ranges, check_bounds
from steppe.stepping.context import StepContext
from steppe.vectors import joint_norm, scaled_


@GEOMETRIES.add("preconditioned", source="Singh et al., 2025, arXiv:2502.02407")
@dataclass(frozen=True)
class Preconditioned(Geometry):
    """An ellipsoid in the metric of Adam: rho D^-1 g / ||D^-1/2 g||.

    It maximises <g, delta> under sum_i D_i delta_i^2 <= rho^2. With v the second moment
    of the base, D = (sqrt(v) / mean + damping) / (1 + damping), the mean of sqrt(v)
    running over all entries. So D has mean 1: the radius stays in the units of the
    weights, D = 1 is the L2 ball, and neither the scale of the loss nor the base's bias
    correction matters. Before the base has stepped, D = 1.

    Args:
        damping: added to sqrt(v) in units of its mean, > 0; keeps entries that have
            hardly had a gradient from taking all of the perturbation. Large values give
            the L2 ball.
        moment: name of v in the state of the base: "exp_avg_sq" of Adam and AdamW,
            "square_avg" of RMSprop.
    """

    bounds: ClassVar[Ranges] = {"damping": (1e-12, math.inf)}

    damping: float = 0.01
    moment: str = "exp_avg_sq"

    def __post_init__(self) -> None:
        check_bounds(vars(self), self.bounds)

    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        roots = self._roots(step, params)
        if not roots:
            norm = joint_norm(grads)
            return scaled_(grads, rho, norm), norm
        metric = _relative(list(roots.values()), self.damping)
        chosen = [grads[i] for i in roots]
        half = list(torch._foreach_sqrt(metric))
        torch._foreach_div_(chosen, half)
        norm = joint_norm(grads)
        torch._foreach_div_(chosen, half)
        return scaled_(grads, rho, norm), norm

    def _roots(self, step: StepContext, params: list[Tensor]) -> dict[int, Tensor]:
        """Square roots of the second moments, by number of the parameter."""
        moments = step.base_state(self.moment, params)
        # A base of several may have none, such as Muon.
        known = {i: moment for i, moment in enumerate(moments) if moment is not None}
        if not known and params and step.number > 0:
            raise UsageError(
                f"no base remembers a second moment '{self.moment}'; take a base such "
                "as Adam, or name what it remembers with moment=."
            )
        if not known:
            return {}
        return dict(zip(known, torch._foreach_sqrt(list(known.values())), strict=True))


def _relative(roots: list[Tensor], damping: float) -> list[Tensor]:
    """Square roots over their mean, damped, with mean 1."""
    wide = [torch.promote_types(root.dtype, torch.float32) for root in roots]
    sums = [root.sum(dtype=dtype) for root, dtype in zip(roots, wide, strict=True)]
    total = torch.stack([each.to(sums[0].device, sums[0].dtype) for each in sums]).sum()
    count = sum(r.numel() for r in roots)
    mean = total / count + torch.finfo(total.dtype).tiny
    factor = 1 / (mean * (1 + damping))
    for root in roots:
        root.mul_(factor.to(root.device)).add_(damping / (1 + damping))
    return roots
