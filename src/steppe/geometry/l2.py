"""The ball of SAM: one radius over all parameters together.

Source: Foret et al., 2021, arXiv:2010.01412, Equation 2 with p = 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.geometry.abstract import GEOMETRIES, Geometry
from steppe.stepping.context import StepContext
from steppe.vectors import joint_norm, scaled_


@GEOMETRIES.add("l2", source="Foret et al., 2021, arXiv:2010.01412")
@dataclass(frozen=True)
class L2(Geometry):
    """One ball over all parameters: rho g / ||g||, the radius in units of the weights.

    Foret et al., 2021, Equation 2 with p = 2.
    """

    tells_length: ClassVar = True

    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        norm = joint_norm(grads)
        return scaled_(grads, rho, norm), norm
