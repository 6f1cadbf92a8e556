"""Rise of the loss after rounding the weights to integers of a few bits.

Source: Wu et al., 2020, arXiv:2004.09602, scale quantization: symmetric, with the
largest magnitude at the end of the range.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.points.changed import Answers, Change, Tensors, rise_of_loss
from steppe.registry.bounds import Range, Ranges
from steppe.results import Estimate

Per = Literal["channel", "tensor"]


@MEASURES.add(
    "rounding",
    source="Wu et al., 2020, arXiv:2004.09602",
    units="loss",
    invariant_to=(
        "layer_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("outputs", "changed weights"),
    cost=Cost(forwards=2),
)
@dataclass(frozen=True, kw_only=True)
class Rounding(AbstractMeasure):
    """Rise of the loss after rounding the weights to a few bits.

    Weights become the nearest multiples of a step: their largest magnitude over
    2^(bits - 1) - 1. Halves go to the even multiple. Activations and frozen parameters
    stay as they are, and so do running statistics of batch norm unless the objective
    re-estimates them. The details have the error rate before and after where outputs
    are class scores.

    Args:
        bits: of an integer, 2 to 16.
        per: "channel" for a step for each output channel, along dimension 0 of a matrix
            or kernel; "tensor" for one for each tensor.
        tensors: "matrices" for parameters of at least two dimensions, "all" for vectors
            too, which have one step each.
    """

    bounds: ClassVar[Ranges] = {"bits": Range(2, 16, whole=True)}

    bits: int = 4
    per: Per = "channel"
    tensors: Tensors = "matrices"

    def needs(self) -> Sequence[Need[Any]]:
        """Losses before."""
        return [Answers()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Round and evaluate; the standard error is over the samples."""
        change = Rounded(bits=self.bits, per=self.per, tensors=self.tensors)
        return rise_of_loss(measurement, change)


@dataclass(frozen=True, kw_only=True)
class Rounded(Change):
    """Weights as multiples of a step; see `Rounding`."""

    bits: int
    per: Per

    def of_all(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Round P tensors."""
        return [self._rounded(tensor) for tensor in weights]

    def _rounded(self, tensor: Tensor) -> Tensor:
        # Half precision has no room for the quotients.
        wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        channels = self.per == "channel" and tensor.dim() > 1
        kept = range(1, tensor.dim()) if channels else range(tensor.dim())
        largest = wide.abs().amax(tuple(kept), keepdim=True)
        step = largest / (2 ** (self.bits - 1) - 1)
        # Zeros alone have no step and stay.
        quotients = torch.where(step > 0, wide / step, 0.0)
        rounded: Tensor = quotients.round() * step
        return rounded.to(tensor.dtype)
