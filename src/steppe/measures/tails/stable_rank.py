"""Stable rank of the weight matrices, which needs no data.

Source: Rudelson and Vershynin, 2007, doi:10.1145/1255443.1255449; as a measure of
trained networks, Martin and Mahoney, 2021, JMLR 22(165), arXiv:1810.01075.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layer_spectra import (
    ONLY_ZEROS,
    Kernel,
    LayerSpectra,
    mean_over_layers,
)
from steppe.results import Estimate


@MEASURES.add(
    "stable_rank",
    source="Rudelson and Vershynin, 2007, doi:10.1145/1255443.1255449",
    units="pure number",
    invariant_to=(
        "layer_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "logit_scale",
    ),
    needs=("singular values",),
    cost_note="one singular value decomposition of each weight matrix",
)
@dataclass(frozen=True, kw_only=True)
class StableRank(AbstractMeasure):
    """Squared Frobenius norm over squared spectral norm of a layer, mean over layers.

    Between 1 and the rank; unlike it, small singular values hardly move it.

    Args:
        kernel: how a convolution is a matrix, see `LayerSpectra`.
    """

    uses_data: ClassVar[bool] = False

    kernel: Kernel = "matrix"

    def needs(self) -> Sequence[Need[Any]]:
        """The singular values of all layers."""
        return [LayerSpectra(self.kernel)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average over the layers that are not all zero."""
        ranks: dict[str, float] = {}
        undefined: dict[str, str] = {}
        for layer in measurement.of(LayerSpectra(self.kernel)):
            squares = layer.eigenvalues
            if len(squares):
                ranks[layer.name] = math.fsum(squares / squares[0])
            else:
                undefined[layer.name] = ONLY_ZEROS
        return mean_over_layers(ranks, undefined=undefined)
