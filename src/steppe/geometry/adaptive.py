"""The ball of ASAM, in units of the weights, in four forms.

Source: Kwon et al., 2021, arXiv:2102.11600, Equation 7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError, UsageError, check_choice
from steppe.geometry.abstract import GEOMETRIES, Geometry, signs_
from steppe.registry.bounds import Bounds, Ranges, check_bounds
from steppe.schedules import Schedule
from steppe.stepping.context import StepContext
from steppe.vectors import joint_norm, scaled_

Style = Literal["matrices", "samsung", "davda54", "bigvision"]
Norm = Literal["2", "inf"]


@GEOMETRIES.add("adaptive", source="Kwon et al., 2021, arXiv:2102.11600")
@dataclass(frozen=True)
class Adaptive(Geometry):
    """A ball in units of the weights: rho T^2 g / ||T g|| with T = |w| + eta.

    Kwon et al., 2021, Equation 7. Its forms differ in what T is:

    - "matrices" (here the default): T = |w| + eta for tensors of more than one
      dimension, 1 for biases and normalisation weights.
    - "samsung", the authors' code: T = |w| + eta where the parameter's name holds
      "weight", normalisation weights among them, 1 elsewhere; needs the names, so pass
      `model=` to the optimizer.
    - "davda54", the widespread two-call code: T = |w| for every parameter; eta is
      unused, and zero biases do not move. Wants a larger rho, about 2.
    - "bigvision", Google's GSAM: rho |w| g / ||g||, the first power of |w| over the
      plain norm.

    Args:
        eta: added to |w|, in the units of the parameters, >= 0, or a schedule.
        style: which form.
        p: 2, or "inf" for rho T sign(g), the same ball in the largest-entry norm.
    """

    eta: float | Schedule = 0.01
    style: Style = "matrices"
    p: Norm = "2"
    in_groups: ClassVar[Bounds] = {"eta": (0.0, math.inf)}
    bounds: ClassVar[Ranges] = in_groups

    def __post_init__(self) -> None:
        if isinstance(self.eta, int | float):  # a schedule is checked along the steps
            check_bounds(vars(self), self.bounds)
        check_choice("style", self.style, get_args(Style))
        check_choice("p", self.p, get_args(Norm))
        if self.p == "inf" and self.style == "bigvision":
            raise SettingError("style='bigvision' is defined for p='2' only.")

    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        chosen = [i for i, p in enumerate(params) if self._scales(step, p)]
        scaled = [grads[i] for i in chosen]
        factors = (
            list(torch._foreach_abs([params[i] for i in chosen])) if chosen else []
        )
        if factors and self.style in ("matrices", "samsung"):
            eta = step.setting("eta", params)
            torch._foreach_add_(factors, [eta[i] for i in chosen])
        if self.p == "inf":
            norm = joint_norm(grads)
            steps = signs_(grads, rho, norm)
            if scaled:
                torch._foreach_mul_([steps[i] for i in chosen], factors)
            return steps, norm
        # The longest way up in the ball |T^-1 d| <= rho is T^2 g / |T g|: the factors
        # are multiplied once before the norm and once after it.
        once = self.style == "bigvision"
        if scaled and not once:
            torch._foreach_mul_(scaled, factors)
        norm = joint_norm(grads)
        if scaled:
            torch._foreach_mul_(scaled, factors)
        return scaled_(grads, rho, norm), norm

    def _scales(self, step: StepContext, param: Tensor) -> bool:
        if self.style == "matrices":
            return param.dim() > 1
        if self.style == "samsung":
            name = step.name(param)
            if not name:
                raise UsageError(
                    "style='samsung' tells weights from biases by name; pass the "
                    "model with model=model."
                )
            return "weight" in name
        return True
