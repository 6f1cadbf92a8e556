"""Number of parameters, the oldest measure of the size of a network.

Source: Jiang et al., 2020, arXiv:1912.02178, who take it for the VC dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.results import Estimate


@MEASURES.add(
    "parameter_count",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="parameters",
    sharper_is="neither",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
        "logit_scale",
    ),
    cost_note="only the shapes of the weights are looked at",
)
@dataclass(frozen=True, kw_only=True)
class ParameterCount(AbstractMeasure):
    """Number of measured parameters; a baseline for the other measures.

    The details hold that of `weights`, parameters of two or more dimensions. Published
    as "params" (of weights alone).
    """

    uses_data: ClassVar[bool] = False

    def needs(self) -> Sequence[Need[Any]]:
        """Nothing."""
        return []

    def estimate(self, measurement: Measurement) -> Estimate:
        """Count."""
        # Inside, so that a model with other parameters than the objective is refused.
        with measurement.objective.measuring():
            params = measurement.objective.params
            return Estimate(
                value=float(sum(p.numel() for p in params)),
                details={"weights": sum(p.numel() for p in params if p.dim() > 1)},
            )
