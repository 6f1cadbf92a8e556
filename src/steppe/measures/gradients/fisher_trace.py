"""Trace of the Fisher information matrix, at labels that the network predicts.

Source: Jastrzebski et al., 2021, arXiv:2012.14193, who penalize it; the
matrix as in Martens, 2020, arXiv:1412.1193, section 5.

Shape letters: n samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.model_labels import ModelLabelNorms
from steppe.measures.needs.gradients.row_gradients import KindOfSamples
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "fisher_trace",
    source="Jastrzebski et al., 2021, arXiv:2012.14193",
    units="squared loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("outputs", "samples", "gradients at model labels"),
    cost=Cost(forwards=2, gradients=10),
    cost_is="about",
    cost_note="a gradient for each class or draw",
)
@dataclass(frozen=True, kw_only=True)
class FisherTrace(AbstractMeasure):
    """Trace of the Fisher matrix: mean of |gradient|^2 at labels of the network.

    The trace of `steppe.Fisher`. Without draws it is the expectation over all classes,
    for at most 100 of them and one loss term for each row. The standard error is over
    the samples, and so over their draws too; it is infinite for one sample. Outputs
    must be scores of classes: cross entropy, or nll_loss of log probabilities.

    Args:
        draws: labels drawn from the network's predictions for each loss term, at least
            1; None for all classes, each with its probability.
    """

    bounds: ClassVar[Ranges] = {"draws": at_least(1)}

    draws: int | None = None

    def needs(self) -> Sequence[Need[Any]]:
        """Norms of gradients at labels of the network."""
        return [ModelLabelNorms(self.draws)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average over the samples."""
        squares = measurement.of(ModelLabelNorms(self.draws))
        n = len(squares)
        return Estimate(
            value=float(squares.mean()),
            stderr=float(squares.std()) / n**0.5 if n > 1 else math.inf,
            samples=n,
            details={"samples_are": measurement.of(KindOfSamples())},
        )
