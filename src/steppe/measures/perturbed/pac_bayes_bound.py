"""Complexity term of a PAC-Bayes bound with Gaussian prior and posterior.

Source: Bisla et al., 2022, arXiv:2201.08025, supplement B, whose tables have it as
mu_PAC-Bayes; after Jiang et al., 2020, arXiv:1912.02178, PAC-Bayes bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.points.perturbed import Scale, point_scales
from steppe.measures.needs.points.rises import NoiseOfRise
from steppe.measures.needs.weights.references import StartWeights
from steppe.registry.bounds import POSITIVE, Range, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "pac_bayes_bound",
    source="Bisla et al., 2022, arXiv:2201.08025, supplement B",
    units="nats",
    invariant_to=("unit_permutation",),
    needs=("Hessian", "noise of a rise", "outputs", "perturbed losses", "start"),
    cost=Cost(forwards=41, gradients=1, products=3),
    cost_is="about",
    cost_note="samples for each of about 4 deviations",
)
@dataclass(frozen=True, kw_only=True)
class PACBayesBound(AbstractMeasure):
    """Complexity of a PAC-Bayes bound: |w - w0|^2 / (4 sigma^2) + log(2 m / delta).

    sigma is the standard deviation that `pac_bayes` finds, w0 are the weights at the
    start of the training, which have to be given as `start`, and m is the number of
    loss terms. With another scale than "raw", distances are in its coordinates, so
    that sigma is one number for all of them.

    The variant "published" differs in the search for sigma (see `pac_bayes`), and w0 is
    always 0: a condition of its code (`is not True`) discards the start.

    Args:
        eps: rise of the mean loss, in its units.
        samples: number of draws M, at least 2.
        delta: probability with which the bound may fail, above 0 and below 1.
        scale: of the noise and the distance: "raw", "filter", "balanced" or "adaptive".
        variant: "correct" or "published".
    """

    bounds: ClassVar[Ranges] = {
        "eps": POSITIVE,
        "samples": at_least(2),
        "delta": Range(0.0, 1.0, above=True, below=True),
    }

    eps: float = 0.1
    samples: int = 10
    delta: float = 1e-6
    scale: Scale = "raw"
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """The loss in the middle, the search, and the start."""
        search = NoiseOfRise(self.eps, self.samples, self.scale, self.variant)
        start = [] if self.variant == "published" else [StartWeights()]
        return [LossTerms(), search, *start]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Search, and carry the error over to the bound."""
        objective = measurement.objective
        start: Sequence[Tensor] = [torch.zeros_like(p) for p in objective.params]
        if self.variant == "correct":
            start = measurement.of(StartWeights())  # before the work of the search
        level = measurement.of(
            NoiseOfRise(self.eps, self.samples, self.scale, self.variant)
        )
        scales = point_scales(objective, self.scale)
        squared = sum(
            _squared(p.detach() - before, scale)
            for p, before, scale in zip(objective.params, start, scales, strict=True)
        )
        distance = squared / (4 * level.sigma**2)
        return Estimate(
            value=distance + math.log(2 * objective.count() / self.delta),
            stderr=2 * distance * level.stderr / level.sigma,
            samples=self.samples,
            converged=level.converged,
            details={"sigma": level.sigma, "evaluations": level.evaluations},
        )


def _squared(difference: Tensor, scale: float | Tensor) -> float:
    """Squared length in units of a scale; where that is 0 nothing has moved."""
    units = difference.double() / scale
    return float(units.square()[difference != 0].sum())
