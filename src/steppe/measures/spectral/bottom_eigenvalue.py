"""Smallest eigenvalue of the Hessian of the mean loss.

Source: Sagun, Bottou and LeCun, 2016, arXiv:1611.07476, on negative curvature at the
end of training; the criterion is that of Parlett, 1998,
doi:10.1137/1.9781611971163, section 13.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.linalg.lanczos import Target
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.spectrum.curvature import Scale, ScaledHessian
from steppe.measures.needs.spectrum.krylov import LEAST, extreme_pair
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

FLOOR = 0.01  # share of the largest magnitude


@MEASURES.add(
    "bottom_eigenvalue",
    source="Sagun, Bottou and LeCun, 2016, arXiv:1611.07476",
    units="loss per squared parameter",
    sharper_is="smaller",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "Lanczos run"),
    cost=Cost(gradients=1, products=40),
    cost_is="about",
)
@dataclass(frozen=True, kw_only=True)
class BottomEigenvalue(AbstractMeasure):
    """Smallest eigenvalue of the Hessian: the strongest negative curvature, if any.

    Where no curvature is negative, it is the smallest one, often 0. The end of the
    spectrum is less isolated there than at the top, so that it takes more products.

    Args:
        tol: norm of the residual H v - value v, as a share of the magnitude of the
            value, or of a hundredth of the largest magnitude where that is larger.
        max_products: Hessian products at most.
        scale: coordinates of the Hessian: "raw" for the parameters as they are,
            "balanced" in units of the length of each filter, as published.
    """

    bounds: ClassVar[Ranges] = {"tol": POSITIVE, "max_products": at_least(1)}

    tol: float = 1e-2
    max_products: int = 200
    scale: Scale = "raw"

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [ScaledHessian(self.scale)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Run Lanczos; nothing is sampled, so the doubt is the residual."""
        target = Target(1, "SA", self.tol, self.max_products, least=LEAST, floor=FLOOR)
        pairs, steps = extreme_pair(measurement, target, self.scale)
        return Estimate(
            value=float(pairs.values[0]),
            converged=pairs.converged,
            details={"residual": float(pairs.residuals[0]), "products": steps},
        )
