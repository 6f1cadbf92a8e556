"""Inverse squared margin of the training data.

Source: Jiang et al., 2020, arXiv:1912.02178; Equation 22 by the numbers that the code
of Dziugaite et al., 2020, arXiv:2010.11924, refers to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import Margins, tenth_percentile
from steppe.measures.needs.weights.layers import published_adjustment
from steppe.results import Estimate


@MEASURES.add(
    "inverse_margin",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="per squared score",
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
class InverseMargin(AbstractMeasure):
    """One over the squared margin that a tenth of the samples are not above.

    A margin is the score of the sample's class less the largest one of the others. The
    details hold that `percentile` of the margins with its sign: it is negative where a
    tenth of the samples or more are taken for another class, and the measure, which is
    meant for networks that fit their data, then falls with the error. They hold
    `adjusted`, the root of the value over the number of loss terms, as the published
    tables have it.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The margins."""
        return [Margins()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Take the percentile."""
        margins = measurement.of(Margins())
        margin = tenth_percentile(margins)
        value = margin**-2
        return Estimate(
            value=value,
            details={"percentile": margin, **published_adjustment(value, len(margins))},
        )
