"""Rise of the loss after rounding the weights to bfloat16.

Source: Kalamkar et al., 2019, arXiv:1905.12322.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.points.changed import Answers, Change, Tensors, rise_of_loss
from steppe.results import Estimate


@MEASURES.add(
    "bfloat16_rounding",
    source="Kalamkar et al., 2019, arXiv:1905.12322",
    units="loss",
    invariant_to=("unit_permutation",),
    needs=("outputs", "changed weights"),
    cost=Cost(forwards=2),
)
@dataclass(frozen=True, kw_only=True)
class Bfloat16Rounding(AbstractMeasure):
    """Rise of the loss after rounding the weights to bfloat16.

    Each weight has 8 significant bits; halves go to the even number. The network
    computes in its own precision: it is the effect of stored weights alone. Running
    statistics of batch norm stay as they are unless the objective re-estimates them.
    The details have the error rate before and after where outputs are class scores.

    Args:
        tensors: "matrices" for parameters of at least two dimensions, "all" for vectors
            too.
    """

    tensors: Tensors = "all"

    def needs(self) -> Sequence[Need[Any]]:
        """Losses before."""
        return [Answers()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Round and evaluate; the standard error is over the samples."""
        return rise_of_loss(measurement, InBfloat16(tensors=self.tensors))


@dataclass(frozen=True, kw_only=True)
class InBfloat16(Change):
    """Weights with 8 significant bits."""

    def of_all(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Round P tensors."""
        return [tensor.to(torch.bfloat16).to(tensor.dtype) for tensor in weights]
