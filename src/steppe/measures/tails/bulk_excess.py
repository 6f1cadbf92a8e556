"""Largest eigenvalue of the weight matrices against the bulk of a random matrix.

Source: Martin and Mahoney, 2021, JMLR 22(165), arXiv:1810.01075.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.linalg.random_matrices import bulk_edge, largest_by_chance
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layer_spectra import (
    ONLY_ZEROS,
    LayerSpectra,
    LayerSpectrum,
    mean_over_layers,
)
from steppe.results import Estimate


@MEASURES.add(
    "bulk_excess",
    source="Martin and Mahoney, 2021, JMLR 22(165), arXiv:1810.01075",
    units="pure number",
    sharper_is="neither",
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
class BulkExcess(AbstractMeasure):
    """Largest eigenvalue of W'W over the Marchenko-Pastur edge, mean over layers.

    The edge is that of a matrix of independent entries of mean 0 whose mean square is
    that of the weights; about 1 for such a matrix. The details hold for each layer the
    `edge` and the number of `spikes`: eigenvalues beyond the 95 % quantile of the
    largest one of such a matrix, by its law of Tracy and Widom.

    Difference from the published package: the variance is that of all entries, and
    nothing is fitted to the bulk, so that large spikes widen it.

    A convolution is the matrix (outputs, inputs times kernel size).
    """

    uses_data: ClassVar[bool] = False

    def needs(self) -> Sequence[Need[Any]]:
        """The singular values of all layers."""
        return [LayerSpectra()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average over the layers that are not all zero."""
        layers: dict[str, dict[str, float]] = {}
        undefined: dict[str, str] = {}
        for layer in measurement.of(LayerSpectra()):
            if len(layer.eigenvalues):
                layers[layer.name] = _against_chance(layer)
            else:
                undefined[layer.name] = ONLY_ZEROS
        return mean_over_layers(layers, "excess", undefined)


def _against_chance(layer: LayerSpectrum) -> dict[str, float]:
    eigenvalues = layer.eigenvalues
    rows, columns = layer.rows, layer.columns
    variance = math.fsum(eigenvalues) / (rows * columns)
    edge = bulk_edge(rows, columns, variance)
    by_chance = largest_by_chance(rows, columns, variance)
    return {
        "excess": float(eigenvalues[0]) / edge,
        "edge": edge,
        "spikes": int((eigenvalues > by_chance).sum()),
    }
