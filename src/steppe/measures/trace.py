"""Trace of the Hessian of the mean loss.

Source: Hutchinson, 1990, doi:10.1080/03610919008812866; as a measure of flatness in
Dinh et al., 2017, arXiv:1703.04933, who show that rescaling layers changes it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from steppe.curvature.hessian import Hessian
from steppe.linalg import trace as hutchinson
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.objective import Objective, check_objective
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

MIN_SAMPLES = 20  # see `min_samples` of `steppe.linalg.trace.trace`


@MEASURES.add(
    "trace",
    source="Hutchinson, 1990, doi:10.1080/03610919008812866; arXiv:1703.04933",
    units="loss per squared parameter",
    cost="a gradient per output where exact, else 50 to max_samples + 50 products",
    planned_by="rtol",
)
@dataclass(frozen=True, kw_only=True)
class Trace(AbstractMeasure):
    """Trace of the Hessian: the sum of the curvatures along all directions.

    Exact for piecewise linear networks (ReLU, pooling, evaluated batch norm) of at most
    100 outputs, sampled for others.

    Args:
        rtol: asked standard error as a share of the magnitude of the trace.
        max_samples: random vectors at most, one Hessian product each; at least 20.
    """

    bounds: ClassVar[Ranges] = {"rtol": POSITIVE, "max_samples": at_least(MIN_SAMPLES)}

    rtol: float = 0.05
    max_samples: int = 200

    def __call__(
        self, objective: Objective, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Ask the Hessian, or draw random signs until the error is met."""
        check_objective(objective, type(self).__name__)
        before = objective.cost
        estimate = hutchinson.trace(
            objective.share(Hessian),
            rtol=self.rtol,
            min_samples=MIN_SAMPLES,
            max_samples=self.max_samples,
            generator=generator,
        )
        method = estimate.details["method"]
        return dataclasses.replace(
            estimate,
            cost=objective.cost - before,
            details=self.details(objective, method=method),
        )
