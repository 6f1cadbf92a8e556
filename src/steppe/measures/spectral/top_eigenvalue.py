"""Largest eigenvalue of the Hessian of the mean loss.

Source: LeCun et al., 1993, Automatic Learning Rate Maximization by On-Line Estimation
of the Hessian's Eigenvectors; here by Lanczos (`steppe.linalg.lanczos`), so that
it is the algebraically largest and not the largest in magnitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.linalg.lanczos import eigsh
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.curvature import HessianOfLoss
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "top_eigenvalue",
    source="LeCun et al., 1993, NIPS 5, Automatic Learning Rate Maximization",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian",),
    cost=Cost(gradients=1, products=20),
    cost_is="about",
)
@dataclass(frozen=True, kw_only=True)
class TopEigenvalue(AbstractMeasure):
    """Largest eigenvalue of the Hessian: the curvature along the sharpest direction.

    Args:
        tol: norm of the residual H v - value v, as a share of the value.
        max_products: Hessian products at most.
    """

    bounds: ClassVar[Ranges] = {"tol": POSITIVE, "max_products": at_least(1)}

    tol: float = 1e-3
    max_products: int = 200

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [HessianOfLoss()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Run Lanczos; nothing is sampled, so the doubt is the residual."""
        pairs = eigsh(
            measurement.of(HessianOfLoss()),
            tol=self.tol,
            max_products=self.max_products,
            generator=self.stream(measurement),
        )
        return Estimate(
            value=float(pairs.values[0]),
            converged=pairs.converged,
            details={
                "residual": float(pairs.residuals[0]),
                "products": pairs.products,
            },
        )
