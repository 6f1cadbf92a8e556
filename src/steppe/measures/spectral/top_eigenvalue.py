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
from steppe.linalg.lanczos import Target
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.spectrum.curvature import Scale, ScaledHessian
from steppe.measures.needs.spectrum.krylov import (
    LEAST,
    PUBLISHED_STARTS,
    PUBLISHED_STEPS,
    extreme_pair,
    published_values,
)
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "top_eigenvalue",
    source="LeCun et al., 1993, NIPS 5, Automatic Learning Rate Maximization",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "Lanczos run"),
    cost=Cost(gradients=1, products=20),
    cost_is="about",
    later=("variant", "scale"),
)
@dataclass(frozen=True, kw_only=True)
class TopEigenvalue(AbstractMeasure):
    """Largest eigenvalue of the Hessian: the curvature along the sharpest direction.

    The published variant (Bisla et al., 2022, arXiv:2201.08025) makes 100 steps from
    each of two starts, with no look at the residual, and takes the mean of the two
    largest Ritz values. Samples weigh alike here; there, batches do.

    Args:
        tol: norm of the residual H v - value v, as a share of the value.
        max_products: Hessian products at most.
        variant: "correct", or "published", which heeds neither of the two above.
        scale: coordinates of the Hessian: "raw" for the parameters as they are,
            "balanced" in units of the length of each filter, as published.
    """

    bounds: ClassVar[Ranges] = {"tol": POSITIVE, "max_products": at_least(1)}

    tol: float = 1e-3
    max_products: int = 200
    variant: Variant = "correct"
    scale: Scale = "raw"

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [ScaledHessian(self.scale)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Run Lanczos; nothing is sampled, so the doubt is the residual."""
        if self.variant == "published":
            values = published_values(measurement, self.scale)
            return Estimate(
                value=float(values[-1]),
                details={"products": PUBLISHED_STARTS * PUBLISHED_STEPS},
            )
        target = Target(1, "LA", self.tol, self.max_products, least=LEAST)
        pairs, steps = extreme_pair(measurement, target, self.scale)
        return Estimate(
            value=float(pairs.values[0]),
            converged=pairs.converged,
            details={"residual": float(pairs.residuals[0]), "products": steps},
        )
