"""Complexity terms of PAC-Bayes bounds whose noise changes the training accuracy.

Source: Jiang et al., 2020, arXiv:1912.02178; Equations 48, 49, 56 and 57 by the numbers
that the code of Dziugaite et al., 2020, arXiv:2010.11924, refers to.

Shape letters: M random draws, D parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.points.accuracy_noise import (
    FLOOR,
    NoiseOfErrors,
    check_variant,
)
from steppe.measures.needs.weights.layers import published_adjustment
from steppe.measures.needs.weights.references import StartWeights
from steppe.parameters import flatten
from steppe.registry.bounds import Range, Ranges, at_least
from steppe.results import Estimate

Reference = Literal["start", "origin"]
CONSTANT = 10.0  # of the published formulas


@MEASURES.add(
    "pac_bayes_complexity",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="nats",
    invariant_to=("unit_permutation",),
    needs=("noise of errors", "perturbed losses", "start"),
    cost=Cost(forwards=81),
    cost_is="about",
    cost_note="samples for each of about 8 deviations",
)
@dataclass(frozen=True, kw_only=True)
class PACBayesComplexity(AbstractMeasure):
    """Complexity term |w - w0|^2 / (4 sigma^2) + log(m / sigma) + 10.

    sigma is the deviation that `pac_bayes_flatness` finds for m loss terms, and w0 are
    the weights at the start of the training, which have to be given as `start`, or 0.
    With `magnitude_aware` the first term is a quarter of the sum over the D parameters
    of log (e^2 + (sigma^2 + 1) |w - w0|^2 / D) / (e^2 + sigma^2 (w_i - w0_i)^2), with
    e = 0.001. Published as pac-bayes-init, -orig, -mag-init and -mag-orig. The details
    hold `sigma`, and `adjusted`, the root of the value over m.

    A permutation of units keeps it where the start has its units in the same order.

    Differences from the published code: batch norm is not folded, all measured
    parameters count and not the weights alone, so that the bound and the noise have the
    same ones; and with `reference` "origin" both parts of the logarithm have w0 = 0,
    where the code has the start in one of them. For the variant "published" see
    `pac_bayes_flatness`; its formula has sigma, not the sigma^2 of its noise.

    Args:
        reference: w0, "start" or "origin".
        change: of the accuracy, a share above 0 and below 1.
        samples: number of draws M, at least 2.
        magnitude_aware: noise of the variance sigma^2 w^2 + 0.001^2 for a weight w.
        variant: "correct" or "published", which goes without `magnitude_aware`.
    """

    bounds: ClassVar[Ranges] = {
        "change": Range(0.0, 1.0, above=True, below=True),
        "samples": at_least(2),
    }

    reference: Reference = "start"
    change: float = 0.1
    samples: int = 10
    magnitude_aware: bool = False
    variant: Variant = "correct"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_variant(self.variant, self.magnitude_aware)

    def needs(self) -> Sequence[Need[Any]]:
        """The start, and the noise."""
        start = [StartWeights()] if self.reference == "start" else []
        return [*start, self._search()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Search, and carry the error over to the bound."""
        objective = measurement.objective
        change = flatten([p.detach().double() for p in objective.params])
        if self.reference == "start":  # before the work of the search
            start = measurement.of(StartWeights())
            change = change - flatten([p.double() for p in start])
        level = measurement.of(self._search())
        terms = objective.count()
        value, above = (
            self._bound(change, sigma, terms)
            for sigma in (level.sigma, level.sigma * (1 + 1e-4))
        )
        slope = (above - value) / (level.sigma * 1e-4)
        return Estimate(
            value=value,
            stderr=abs(slope) * level.stderr,
            samples=self.samples,
            converged=level.converged,
            details={
                "sigma": level.sigma,
                "evaluations": level.evaluations,
                **published_adjustment(value, terms),
            },
        )

    def _bound(self, change: Tensor, sigma: float, terms: int) -> float:
        squared = float(change.square().sum())
        rest = math.log(terms / sigma) + CONSTANT
        if not self.magnitude_aware:
            return squared / (4 * sigma**2) + rest
        prior = FLOOR**2 + (sigma**2 + 1) * squared / len(change)
        noise = FLOOR**2 + sigma**2 * change.square()
        return float((math.log(prior) - noise.log()).sum()) / 4 + rest

    def _search(self) -> NoiseOfErrors:
        return NoiseOfErrors(
            self.change, self.samples, self.magnitude_aware, self.variant
        )
