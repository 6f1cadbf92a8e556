"""Noise on the weights that raises the mean loss by a given amount (PAC-Bayes).

Source: Bisla et al., 2022, arXiv:2201.08025, supplement B; after Neyshabur et al.,
2017, arXiv:1706.08947, and Jiang et al., 2020, arXiv:1912.02178. The published code
bisects with new draws for every standard deviation; with the same ones the mean rise
is a smooth function of it, which a few secants solve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.points.perturbed import Scale
from steppe.measures.needs.points.rises import NoiseOfRise
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "pac_bayes",
    source="Bisla et al., 2022, arXiv:2201.08025, supplement B",
    units="parameter",
    sharper_is="smaller",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "noise of a rise", "outputs", "perturbed losses"),
    cost=Cost(forwards=41, gradients=1, products=3),
    cost_is="about",
    cost_note="samples for each of about 4 deviations",
)
@dataclass(frozen=True, kw_only=True)
class PACBayes(AbstractMeasure):
    """Noise that raises the mean loss by eps: its standard deviation sigma.

    E L(w + sigma z) - L(w) = eps with z standard normal. Where w is a minimum and the
    loss quadratic, sigma^2 = 2 eps / tr H. Draws are the same for every sigma, so the
    search does not walk on noise, and the error is that over the draws. With the scale
    "filter" it has the invariances of `lpf`; its unit is then the norm of a filter.

    The variant "published" differs in five ways: draws are new for every sigma; it
    bisects sigma, not its logarithm, between 5e-324 and 100 from 0.001 on; it ends
    where the rise is within 1e-6 of eps, which is below the noise of ten draws, or
    where the interval is below 1e-6, after about 27 steps of `samples` passes; a sigma
    below 1e-6 cannot be reached; and an eps that is never reached ends at sigma = 100
    without a word. Its noise is isotropic in balanced coordinates: scale="balanced".
    Its standard error is that of the last step alone, with the slope of a minimum.

    Args:
        eps: rise of the mean loss, in its units.
        samples: number of draws M, at least 2.
        scale: of the noise: "raw" in the units of the parameters, "filter" or
            "balanced" relative to filters, "adaptive" relative to weights.
        variant: "correct" or "published".
    """

    bounds: ClassVar[Ranges] = {"eps": POSITIVE, "samples": at_least(2)}

    eps: float = 0.1
    samples: int = 10
    scale: Scale = "raw"
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """The loss in the middle, and the search."""
        return [
            LossTerms(),
            NoiseOfRise(self.eps, self.samples, self.scale, self.variant),
        ]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Search; the standard error is over the draws."""
        level = measurement.of(
            NoiseOfRise(self.eps, self.samples, self.scale, self.variant)
        )
        return Estimate(
            value=level.sigma,
            stderr=level.stderr,
            samples=self.samples,
            converged=level.converged,
            details={"evaluations": level.evaluations},
        )
