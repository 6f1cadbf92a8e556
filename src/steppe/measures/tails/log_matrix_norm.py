"""Logarithms of matrix norms of the weights, which need no data.

Source: Martin, Peng and Mahoney, 2021, doi:10.1038/s41467-021-24025-8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layer_spectra import (
    ONLY_ZEROS,
    Kernel,
    LayerSpectra,
    mean_over_layers,
)
from steppe.results import Estimate

Norm = Literal["spectral", "frobenius"]


@MEASURES.add(
    "log_matrix_norm",
    source="Martin, Peng and Mahoney, 2021, doi:10.1038/s41467-021-24025-8",
    units="log10 of a squared parameter",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("singular values",),
    cost_note="one singular value decomposition of each weight matrix",
)
@dataclass(frozen=True, kw_only=True)
class LogMatrixNorm(AbstractMeasure):
    """Logarithm to base 10 of the squared norm of a layer's matrix, mean over layers.

    Published as log spectral norm and log Frobenius norm (or log norm).

    Args:
        norm: "spectral", the largest singular value, or "frobenius".
        kernel: how a convolution is a matrix, see `LayerSpectra`; the spectral norm is
            that of the largest of several matrices.
    """

    uses_data: ClassVar[bool] = False

    norm: Norm = "spectral"
    kernel: Kernel = "matrix"

    def needs(self) -> Sequence[Need[Any]]:
        """The singular values of all layers."""
        return [LayerSpectra(self.kernel)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average over the layers that are not all zero."""
        logs: dict[str, float] = {}
        undefined: dict[str, str] = {}
        for layer in measurement.of(LayerSpectra(self.kernel)):
            squares = layer.eigenvalues
            if not len(squares):
                undefined[layer.name] = ONLY_ZEROS
                continue
            whole = self.norm == "frobenius"
            logs[layer.name] = math.log10(math.fsum(squares) if whole else squares[0])
        return mean_over_layers(logs, undefined=undefined)
