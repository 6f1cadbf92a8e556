"""The mean loss itself, to be read beside the measures of flatness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.results import Estimate


@MEASURES.add(
    "loss",
    source="Vapnik, 1992, NIPS 4, Principles of Risk Minimization",
    units="loss",
    sharper_is="neither",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("outputs",),
    cost=Cost(forwards=1),
)
@dataclass(frozen=True, kw_only=True)
class Loss(AbstractMeasure):
    """Mean loss over the data, with its standard error over the samples.

    No flatness: the other measures are compared at a matched loss.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The loss terms."""
        return [LossTerms()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average; nothing is drawn."""
        return measurement.objective.value_of(measurement.of(LossTerms()))
