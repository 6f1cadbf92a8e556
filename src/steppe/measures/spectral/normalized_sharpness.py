"""Normalized sharpness: curvature by the weights under the best scales of noise.

Source: Tsuzuku, Sato and Sugiyama, 2020, arXiv:1901.04653. Noise on a weight that
follows one factor of its row and one of its column is measured by the diagonal h of the
Hessian, and paid for by the squares of the weights over those of the factors; factors
that make the sum least leave nothing that a rescaling of units could change.
Differences: the constants of the bound that multiply the whole are left out; the least
sum is exact, by Newton's method; h is the diagonal of the Gauss-Newton matrix, which is
never negative and, for piecewise linear networks, that of the Hessian.

Shape letters: R rows and C columns of the weight of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.linalg.row_column_scaling import Balance, least_sum
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.spectrum.diagonals import FoldedDiagonal
from steppe.results import Estimate


@MEASURES.add(
    "normalized_sharpness",
    source="Tsuzuku, Sato and Sugiyama, 2020, arXiv:1901.04653",
    units="root of loss",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("diagonal",),
    cost=Cost(gradients=12),
    cost_is="about",
    cost_note="a backward pass for each output of the network, here 10, and two more",
)
@dataclass(frozen=True, kw_only=True)
class NormalizedSharpness(AbstractMeasure):
    """Least curvature of layers under scales of rows and columns, and their price.

    It is the sum over layers of the minimum over s, t > 0 of the sum over i, j of
    h_ij (s_i t_j)^2 + w_ij^2 / (s_i t_j)^2. Rows are the outputs and columns the inputs
    of a linear layer or convolution; the positions of a kernel share their factors.
    Biases and the parameters of norms do not count, nor does a penalty.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The diagonal of the Hessian."""
        return [FoldedDiagonal()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Minimize layer by layer; nothing is drawn."""
        objective = measurement.objective
        diagonals = measurement.of(FoldedDiagonal()).by_tensor
        layers = {
            name: _least(diagonals[name], p.detach(), _groups(objective.model, name))
            for name, p in zip(objective.names, objective.params, strict=True)
            if p.dim() > 1
        }
        if not layers:
            raise UsageError(
                "normalized sharpness needs a layer with a weight of two dimensions or "
                "more, and this network has none; measure the trace instead."
            )
        by_tensor = {
            name: sum(part.value for part in parts) for name, parts in layers.items()
        }
        return Estimate(
            value=float(sum(by_tensor.values())),
            converged=all(
                part.converged for parts in layers.values() for part in parts
            ),
            details={"by_tensor": by_tensor},
        )


def _least(h: Tensor, weight: Tensor, groups: int) -> list[Balance]:
    """The minimum for each group of a layer, whose rows have columns of their own."""
    pairs = zip(h.chunk(groups), weight.double().square().chunk(groups), strict=True)
    return [least_sum(_matrix(a), _matrix(b)) for a, b in pairs]


def _matrix(t: Tensor) -> Tensor:
    """Sums over the positions of kernels, shape (R, C), on the host."""
    return t.flatten(2).sum(2).cpu() if t.dim() > 2 else t.cpu()


def _groups(model: nn.Module, name: str) -> int:
    """Groups of a convolution, by the name of its weight; 1 for other layers."""
    layer = model.get_submodule(name.rpartition(".")[0])
    return int(getattr(layer, "groups", 1))
