"""Simple noise scale: the batch size at which noise and gradient are alike.

Source: McCandlish et al., 2018, arXiv:1812.06162, the simple noise scale, and its
estimate from two sizes of batches in the appendix.

Shape letters: n samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.sample_gradients import (
    GradientNorms,
    Norms,
    check_several,
)
from steppe.results import Estimate


@MEASURES.add(
    "noise_scale",
    source="McCandlish et al., 2018, arXiv:1812.06162, simple noise scale",
    units="samples",
    sharper_is="neither",
    invariant_to=("unit_permutation",),
    needs=("outputs", "gradient", "samples", "sample gradients"),
    cost=Cost(forwards=1, gradients=2),
)
@dataclass(frozen=True, kw_only=True)
class NoiseScale(AbstractMeasure):
    """Simple noise scale: trace of the gradients' covariance over |gradient|^2.

    Numerator and denominator are unbiased each: the squared norm of the mean gradient
    of n samples is too large by the trace over n, which is taken off. Their ratio has a
    bias of order 1 / n that stays. The standard error is that of the jackknife over the
    samples, in closed form. Where the denominator is not positive, the gradient is lost
    in the noise of n samples, and the value is infinite and not converged; where it is
    not without one of them, the standard error is infinite.

    Differences from the paper, which compares gradients of two batch sizes along a
    training: here all samples are differentiated one by one at fixed weights. A
    penalty of the objective is left out.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """Norms of the gradients of samples."""
        return [GradientNorms()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Divide; refuse a gradient of zero."""
        norms = measurement.of(GradientNorms())
        check_several(norms.samples, norms.kind)
        if not norms.mean_square:
            raise UsageError(
                "the noise scale needs a gradient of the mean loss that is not zero, "
                f"got 0 over {norms.samples} samples; measure at other weights, or take"
                " gradient_noise."
            )
        value, error = ratio(norms)
        return Estimate(
            value=value,
            stderr=error,
            samples=norms.samples,
            converged=math.isfinite(value),
            details={"samples_are": norms.kind},
        )


def ratio(norms: Norms) -> tuple[float, float]:
    """The noise scale, and its standard error by the jackknife."""
    n, total = norms.samples, float(norms.noise.sum())
    trace = total / (n - 1)
    signal = norms.mean_square - trace / n
    if signal <= 0:
        return math.inf, math.inf
    if n < 3:
        return trace / signal, math.inf
    # The mean without sample i is the mean less d_i / (n - 1), with d_i the
    # difference of its gradient from the mean; so no gradient is needed a second time.
    traces = (total - norms.noise * (n / (n - 1))) / (n - 2)
    squares = norms.mean_square - 2 * norms.along / (n - 1)
    squares = squares + norms.noise / (n - 1) ** 2
    signals = squares - traces / (n - 1)
    if bool((signals <= 0).any()):
        return trace / signal, math.inf
    without = traces / signals
    error = float(without.std(correction=0)) * (n - 1) ** 0.5
    return trace / signal, error
