"""Effective dimension: the number of directions that the data determine.

Source: MacKay, 1992, doi:10.1162/neco.1992.4.3.415, where alpha is the precision of the
prior; as a measure of flatness in Maddox et al., 2020, arXiv:2003.02139. The sum over
eigenvalues is a stochastic Lanczos quadrature (`steppe.linalg.quadrature`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.linalg.quadrature import quadrature
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.spectrum.curvature import ExactTrace, Scale, ScaledHessian
from steppe.measures.needs.spectrum.draws import HessianDraws
from steppe.measures.needs.spectrum.krylov import (
    krylov_runs,
    krylov_steps,
    published_values,
)
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate, Quadrature

DRAWS = 20  # of the trace, which the weights of the quadrature are made to agree with

FIRST = 20  # steps after which negative curvature is looked for


@MEASURES.add(
    "effective_dimension",
    source="MacKay, 1992, doi:10.1162/neco.1992.4.3.415; arXiv:2003.02139",
    units="parameters",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "Lanczos run", "exact trace", "random products"),
    cost=Cost(gradients=12, products=220),
    cost_is="at most",
    cost_note="steps for each start, and 20; a gradient for each output where exact",
)
@dataclass(frozen=True, kw_only=True)
class EffectiveDimension(AbstractMeasure):
    """Effective dimension: the sum of l / (l + alpha) over positive eigenvalues l.

    An eigenvalue far above alpha counts 1, alpha itself a half, one far below nothing.
    Where the Hessian has an eigenvalue of at most -alpha there is no posterior whose
    dimension it could be, and the measure is refused.

    The published variant (Bisla et al., 2022, arXiv:2201.08025) sums over the 100 Ritz
    values of Lanczos runs, each counted once, averaged in their order over two starts,
    negative ones too. Samples weigh alike here; there, batches do.

    Args:
        alpha: curvature that counts a half, in loss per squared parameter.
        steps: of each Lanczos run. Two runs are in memory at once, with a vector like
            the parameters for each step of each.
        starts: number of random starts.
        variant: "correct", or "published", which heeds neither steps nor starts.
        scale: coordinates of the Hessian: "raw" for the parameters as they are,
            "balanced" in units of the length of each filter, as published.
    """

    bounds: ClassVar[Ranges] = {
        "alpha": POSITIVE,
        "steps": at_least(2),
        "starts": at_least(1),
    }

    alpha: float = 1.0
    steps: int = 100
    starts: int = 2
    variant: Variant = "correct"
    scale: Scale = "raw"

    def needs(self) -> Sequence[Need[Any]]:
        """The Hessian."""
        return [ScaledHessian(self.scale)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Sum over the nodes of the quadrature with their weights."""
        if self.variant == "published":
            values = published_values(measurement, self.scale)
            return Estimate(value=float((values / (values + self.alpha)).sum()))
        # No Ritz value is below the smallest eigenvalue: a few steps may tell already.
        first = krylov_steps(measurement, min(FIRST, self.steps), self.scale)
        self._check(float(first.ritz()[0].min()))
        seen = self._quadrature(measurement)
        self._check(float(seen.nodes.min()))
        dimension = seen.effective_dimension(self.alpha)
        # The error is that of theory for random starts, not the spread of a few: its
        # intervals are those of the normal distribution.
        return dataclasses.replace(dimension, samples=min(1, dimension.samples))

    def _check(self, least: float) -> None:
        if least <= -self.alpha:
            raise UsageError(
                "alpha must be larger than minus the smallest eigenvalue of the "
                f"Hessian, {least:.3g} or less, for an effective dimension, got "
                f"{self.alpha:g}; take a larger alpha, or train the network further."
            )

    def _quadrature(self, measurement: Measurement) -> Quadrature:
        runs, overlaps = krylov_runs(measurement, self.steps, self.starts, self.scale)
        size = measurement.of(ScaledHessian(self.scale)).shape[0]
        if runs[0].exhausted:  # all eigenvalues are known
            trace = Estimate(value=float(runs[0].inner.trace()))
        else:
            trace = self._trace(measurement)
        return quadrature(runs, overlaps, size, trace)

    def _trace(self, measurement: Measurement) -> Estimate:
        exact = measurement.of(ExactTrace(self.scale))
        if exact is not None:
            return exact
        draws = HessianDraws(measurement, self.scale)
        return draws.traces(DRAWS, deflated=True).total()
