"""Sum of Ritz values of the Hessian, published as its trace.

Source: Bisla et al., 2022, arXiv:2201.08025, supplement B, and its published code,
whose name for it is the trace. A Ritz value stands for many eigenvalues, and the sum
counts each once, so that it is far from the trace unless the rest is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.spectrum.curvature import Scale, ScaledHessian
from steppe.measures.needs.spectrum.krylov import (
    PUBLISHED_STARTS,
    PUBLISHED_STEPS,
    ritz_values,
)
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "ritz_sum",
    source="Bisla et al., 2022, arXiv:2201.08025, supplement B",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "Lanczos run"),
    cost=Cost(gradients=1, products=PUBLISHED_STARTS * PUBLISHED_STEPS),
    cost_is="at most",
    cost_note="steps for each start",
)
@dataclass(frozen=True, kw_only=True)
class RitzSum(AbstractMeasure):
    """Sum of the Ritz values of Lanczos runs, averaged over their random starts.

    As published, but for four things: runs end at the number of parameters, where the
    sum is the trace; the precision is that of the network, with the orthogonality of
    the basis renewed at each step; samples weigh alike, where there batches do; and the
    parameters are as they are, where there each filter has length one (scale
    "balanced").

    Args:
        steps: of each run. Two runs are in memory at once, with a vector like the
            parameters for each step of each.
        starts: number of random starts, uniform in [-1, 1].
        scale: coordinates of the Hessian: "raw" for the parameters as they are,
            "balanced" in units of the length of each filter, as published.
    """

    bounds: ClassVar[Ranges] = {"steps": at_least(2), "starts": at_least(1)}

    steps: int = PUBLISHED_STEPS
    starts: int = PUBLISHED_STARTS
    scale: Scale = "raw"

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [ScaledHessian(self.scale)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Sum the values of each run; the standard error is over the starts."""
        values = ritz_values(measurement, self.steps, self.starts, self.scale)
        sums = values.sum(1)
        starts = len(sums)
        if values.shape[1] == measurement.of(ScaledHessian(self.scale)).shape[0]:
            return Estimate(value=float(sums.mean()))  # of all eigenvalues
        spread = float(sums.std()) / starts**0.5 if starts > 1 else torch.inf
        return Estimate(value=float(sums.mean()), stderr=spread, samples=starts)
