"""A ball for every tensor: each moves by a radius of its own, whatever its gradient.

Source: the radius as a function of width follows Haas, Xu, Cevher, Vankadara, 2024,
arXiv:2411.00075 (mu P^2), whose condition is that a perturbation of any layer is felt
alike at every width: its spectral norm goes as sqrt(fan out / fan in).

Difference from the paper: there all layers share one normalisation by the joint norm of
the gradient, with powers of the width chosen by hand for the first, the hidden and the
last layer; here every tensor is normalised by its own gradient, which needs no such
table. The Frobenius norm stands for the spectral one, which it bounds; the two agree up
to a constant where gradients have low rank, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from steppe.errors import check_choice
from steppe.geometry.abstract import GEOMETRIES, Geometry, each_scaled_
from steppe.geometry.shapes import Scale, check_scale, radii
from steppe.stepping.context import StepContext


@GEOMETRIES.add("layer_wise", source="Haas et al., 2024, arXiv:2411.00075")
@dataclass(frozen=True)
class LayerWise(Geometry):
    """A ball for every tensor l: rho_l g_l / ||g_l||.

    It maximises the sum of all <g_l, delta_l> under ||delta_l|| <= rho_l for every l.

    Args:
        scale: "alike" for rho_l = rho, "fan" for rho_l = rho sqrt(fan out / fan in),
            where a kernel counts as a matrix (out, in * height * width) and a vector as
            one column. Embedding tables are stored transposed: give them a group with
            its own rho.
        radius: "each" leaves rho_l as they are, "total" divides them by one number, so
            that all tensors together move by rho, as they do in the L2 ball (where all
            groups have one rho and no gradient is zero).
    """

    scale: Scale = "alike"
    radius: Literal["each", "total"] = "each"
    tells_length: ClassVar = True

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_choice("radius", self.radius, ("each", "total"))

    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        own = radii(params, list(rho), self.scale)
        if self.radius == "total":
            shares = radii(params, [1.0] * len(params), self.scale)
            total = math.hypot(*shares)
            own = [radius / total for radius in own]
        norm = each_scaled_(grads, own)
        return grads, norm
