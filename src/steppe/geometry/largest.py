"""A cube around the weights: every entry moves by the radius.

Source: Foret et al., 2021, arXiv:2010.01412, Equation 2 with p = infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.geometry.abstract import GEOMETRIES, Geometry, signs_
from steppe.stepping.context import StepContext
from steppe.vectors import joint_norm


@GEOMETRIES.add("largest", source="Foret et al., 2021, arXiv:2010.01412, p = infinity")
@dataclass(frozen=True)
class LargestEntry(Geometry):
    """A cube: every entry moves by rho along the sign of its gradient."""

    tells_length: ClassVar = True

    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        norm = joint_norm(grads)
        return signs_(grads, rho, norm), norm
