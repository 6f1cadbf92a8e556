"""Largest eigenvalue of the Hessian of the mean loss.

Source: LeCun et al., 1993, Automatic Learning Rate Maximization by On-Line Estimation
of the Hessian's Eigenvectors; here by Lanczos (`steppe.linalg.lanczos`), so that
it is the algebraically largest and not the largest in magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from steppe.curvature.hessian import Hessian
from steppe.linalg.lanczos import eigsh
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.objective import Objective, check_objective
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "top_eigenvalue",
    source="LeCun et al., 1993, NIPS 5, Automatic Learning Rate Maximization",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    cost="one gradient and about 20 Hessian products",
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

    def __call__(
        self, objective: Objective, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Run Lanczos; nothing is sampled, so the doubt is the residual."""
        check_objective(objective, type(self).__name__)
        before = objective.cost
        pairs = eigsh(
            objective.share(Hessian),  # its retained graphs serve other measures too
            tol=self.tol,
            max_products=self.max_products,
            generator=generator,
        )
        results = {"residual": float(pairs.residuals[0]), "products": pairs.products}
        return Estimate(
            value=float(pairs.values[0]),
            converged=pairs.converged,
            cost=objective.cost - before,
            details=self.details(objective, **results),
        )
