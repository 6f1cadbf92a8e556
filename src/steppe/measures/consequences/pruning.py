"""Rise of the loss after setting the smallest weights to zero.

Source: Han et al., 2015, arXiv:1506.02626, without the training that follows there.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.points.changed import Answers, Change, Tensors, rise_of_loss
from steppe.parameters import flatten, unflatten
from steppe.registry.bounds import Ranges
from steppe.results import Estimate

Scope = Literal["tensor", "global"]


@MEASURES.add(
    "pruning",
    source="Han et al., 2015, arXiv:1506.02626",
    units="loss",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("outputs", "changed weights"),
    cost=Cost(forwards=2),
)
@dataclass(frozen=True, kw_only=True)
class Pruning(AbstractMeasure):
    """Rise of the loss after setting the smallest weights to zero.

    The network is not trained afterwards, and running statistics of batch norm stay as
    they are unless the objective re-estimates them. The details have the error rate
    before and after where outputs are class scores.

    Args:
        share: of the weights that become zero, 0 to 1; their number is rounded.
        scope: "tensor" for the smallest of each tensor, whatever the others' size;
            "global" for the smallest of all.
        tensors: "matrices" for parameters of at least two dimensions, "all" for vectors
            too.
    """

    bounds: ClassVar[Ranges] = {"share": (0.0, 1.0)}

    share: float = 0.5
    scope: Scope = "tensor"
    tensors: Tensors = "matrices"

    def needs(self) -> Sequence[Need[Any]]:
        """Losses before."""
        return [Answers()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Prune and evaluate; the standard error is over the samples."""
        change = Pruned(share=self.share, scope=self.scope, tensors=self.tensors)
        return rise_of_loss(measurement, change)


@dataclass(frozen=True, kw_only=True)
class Pruned(Change):
    """Weights of which the smallest are zero; see `Pruning`."""

    share: float
    scope: Scope

    def of_all(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Prune P tensors, each alone or all as one vector."""
        if self.scope == "tensor":
            return [self._pruned(flatten([w])).view(w.shape) for w in weights]
        return unflatten(self._pruned(flatten(weights)), weights)

    def _pruned(self, vector: Tensor) -> Tensor:
        smallest = vector.abs().topk(round(self.share * len(vector)), largest=False)
        return vector.index_fill(0, smallest.indices, 0.0)
