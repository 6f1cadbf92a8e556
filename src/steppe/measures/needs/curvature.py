"""Matrices of second derivatives that measures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steppe.curvature.hessian import Hessian
from steppe.measures.measurement import Measurement, Need


@dataclass(frozen=True)
class HessianOfLoss(Need[Hessian]):
    """The Hessian of the mean loss, whose retained graphs serve all its products."""

    kind: ClassVar[str] = "Hessian"

    def serve(self, measurement: Measurement) -> Hessian:
        """Make it, and the graphs that all products share."""
        hessian = Hessian(measurement.objective)
        # Now, so that the first measure that multiplies does not pay for the others.
        hessian.prepare()
        return hessian
