"""Trace of the Hessian of the mean loss.

Source: Hutchinson, 1990, doi:10.1080/03610919008812866; as a measure of flatness in
Dinh et al., 2017, arXiv:1703.04933, who show that rescaling layers changes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.linalg import trace as hutchinson
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.curvature import HessianOfLoss
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

MIN_SAMPLES = 20  # see `min_samples` of `steppe.linalg.trace.trace`


@MEASURES.add(
    "trace",
    source="Hutchinson, 1990, doi:10.1080/03610919008812866; arXiv:1703.04933",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian",),
    cost=Cost(gradients=12, products=250),
    cost_is="at most",
    cost_note="max_samples + 50 products; a gradient for each output where exact",
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

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [HessianOfLoss()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Ask the Hessian, or draw random signs until the error is met."""
        estimate = hutchinson.trace(
            measurement.of(HessianOfLoss()),
            rtol=self.rtol,
            min_samples=MIN_SAMPLES,
            max_samples=self.max_samples,
            generator=self.stream(measurement),
        )
        return dataclasses.replace(
            estimate, details={"method": estimate.details["method"]}
        )
