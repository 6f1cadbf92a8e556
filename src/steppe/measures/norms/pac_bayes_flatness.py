"""One over the squared noise at which the training accuracy has changed.

Source: Jiang et al., 2020, arXiv:1912.02178; Equations 53 and 61 by the numbers that
the code of Dziugaite et al., 2020, arXiv:2010.11924, refers to.

Shape letters: M random draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.points.accuracy_noise import NoiseOfErrors, check_variant
from steppe.measures.needs.weights.layers import published_adjustment
from steppe.registry.bounds import Range, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "pac_bayes_flatness",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="per squared parameter, pure number if magnitude-aware",
    invariant_to=("unit_permutation",),
    needs=("noise of errors", "perturbed losses"),
    cost=Cost(forwards=81),
    cost_is="about",
    cost_note="samples for each of about 8 deviations",
)
@dataclass(frozen=True, kw_only=True)
class PACBayesFlatness(AbstractMeasure):
    """One over the squared noise that changes the training accuracy by a tenth.

    The noise is Gaussian, on all measured parameters as they are; the same M draws
    serve every deviation sigma, so that the search ends after a few. A change up or
    down counts, as published. Published as pac-bayes-flatness, with `magnitude_aware`
    as pac-bayes-mag-flatness. The details hold `sigma`, and `adjusted`, the root of the
    value over the number of loss terms.

    The variant "published" draws anew for each of at most 15 steps of a bisection of
    [0, 2], ends within a tenth of the change or with the bisection, and has the
    deviation sigma^2, since its code hands the variance to a function that takes the
    deviation. It folds batch norm first, and so does not perturb these parameters
    alike: where there is batch norm its numbers are other ones.

    Args:
        change: of the accuracy, a share above 0 and below 1.
        samples: number of draws M, at least 2.
        magnitude_aware: noise of the variance sigma^2 w^2 + 0.001^2 for a weight w.
        variant: "correct" or "published", which goes without `magnitude_aware`.
    """

    bounds: ClassVar[Ranges] = {
        "change": Range(0.0, 1.0, above=True, below=True),
        "samples": at_least(2),
    }

    change: float = 0.1
    samples: int = 10
    magnitude_aware: bool = False
    variant: Variant = "correct"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_variant(self.variant, self.magnitude_aware)

    def needs(self) -> Sequence[Need[Any]]:
        """The noise."""
        return [self._search()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Search, and carry the error over."""
        level = measurement.of(self._search())
        value = level.sigma**-2
        return Estimate(
            value=value,
            stderr=2 * value * level.stderr / level.sigma,
            samples=self.samples,
            converged=level.converged,
            details={
                "sigma": level.sigma,
                "evaluations": level.evaluations,
                **published_adjustment(value, measurement.objective.count()),
            },
        )

    def _search(self) -> NoiseOfErrors:
        return NoiseOfErrors(
            self.change, self.samples, self.magnitude_aware, self.variant
        )
