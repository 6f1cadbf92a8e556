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
from steppe.linalg.sampling import judged
from steppe.linalg.trace import sampled_trace
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.spectrum.curvature import ExactTrace, Scale, ScaledHessian
from steppe.measures.needs.spectrum.draws import HessianDraws
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

LOOSE = 1.0  # relative error from which on draws are left as they are
MIN_SAMPLES = 20  # see `min_samples` of `steppe.linalg.trace.trace`


@MEASURES.add(
    "trace",
    source="Hutchinson, 1990, doi:10.1080/03610919008812866; arXiv:1703.04933",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "exact trace", "random products", "Lanczos run"),
    cost=Cost(gradients=12, products=230),
    cost_is="at most",
    cost_note="max_samples + 30 products; a gradient for each output where exact",
    planned_by="rtol",
    later=("scale",),
)
@dataclass(frozen=True, kw_only=True)
class Trace(AbstractMeasure):
    """Trace of the Hessian: the sum of the curvatures along all directions.

    Exact for piecewise linear networks (ReLU, pooling, evaluated batch norm) of at most
    100 outputs. For others it is the mean of z' H z over random signs z, corrected by
    the part of H that 30 Lanczos steps know.

    Args:
        rtol: asked standard error as a share of the magnitude of the trace. From 1 on
            the draws are not corrected: their mean is linear in the data, as
            comparisons of networks want it.
        max_samples: random vectors at most, one Hessian product each; at least 20.
        scale: coordinates of the Hessian: "raw" for the parameters as they are,
            "balanced" in units of the length of each filter, as published.
    """

    bounds: ClassVar[Ranges] = {"rtol": POSITIVE, "max_samples": at_least(MIN_SAMPLES)}

    rtol: float = 0.05
    max_samples: int = 200
    scale: Scale = "raw"

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [ScaledHessian(self.scale)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Ask the Hessian, or draw random signs until the error is met."""
        exact = measurement.of(ExactTrace(self.scale))
        if exact is not None:
            return dataclasses.replace(exact, details={"method": "exact"})
        # Plain draws of a few large eigenvalues are so skewed that intervals from 20 of
        # them hold the trace too seldom; corrected ones do not see these eigenvalues.
        draws = HessianDraws(measurement, self.scale)
        sample, _ = sampled_trace(
            draws,
            self.rtol,
            MIN_SAMPLES,
            self.max_samples,
            deflated=self.rtol < LOOSE,
        )
        method = "deflated" if self.rtol < LOOSE else "hutchinson"
        return dataclasses.replace(
            judged(sample.total(), self.rtol), details={"method": method}
        )
