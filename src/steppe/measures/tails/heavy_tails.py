"""Power laws in the spectra of weight matrices, which need no data.

Sources: Martin and Mahoney, 2021, JMLR 22(165), arXiv:1810.01075 (the exponent alpha);
Martin, Peng and Mahoney, 2021, doi:10.1038/s41467-021-24025-8 (alpha-hat, which they
call weighted alpha, and the log alpha-norm).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from steppe.errors import DataError
from steppe.linalg.power_law import fit_tail
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layer_spectra import (
    Kernel,
    LayerSpectra,
    LayerSpectrum,
    mean_over_layers,
)
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate

Quantity = Literal["alpha", "alpha_hat", "log_alpha_norm"]


@MEASURES.add(
    "heavy_tails",
    source="Martin and Mahoney, 2021, JMLR 22(165), arXiv:1810.01075",
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
class HeavyTails(AbstractMeasure):
    """Exponent of the power law in the tail of a layer's spectrum, mean over layers.

    The tail is that of the eigenvalues of W'W, by `fit_tail`: largest likelihood, and
    the start of the smallest distance. The details hold for each layer `alpha`, its
    `stderr`, the `start` and the number of `points` of the tail, and the `distance` of
    the fit; where that is large, or the points are few, there is no power law to speak
    of. The standard error takes eigenvalues for independent, and the start for known.

    A layer with fewer eigenvalues than `min_eigenvalues` is undefined: fits to small
    layers give exponents of matrices without any tail. No upper end of the tail is
    fitted, so that one outlying eigenvalue moves the exponent.

    Differences from the published package: no batch norm, bias or "finger" is taken
    out, no eigenvalue is cut off the top, and layers of less than 20 eigenvalues have
    no rule of their own.

    Args:
        quantity: "alpha"; "alpha_hat" is alpha times log10 of the largest eigenvalue;
            "log_alpha_norm" is log10 of the sum of all eigenvalues to the power alpha.
            Only "alpha" is independent of the scale of the weights.
        min_eigenvalues: number of eigenvalues that are not zero, at least 2.
        kernel: how a convolution is a matrix, see `LayerSpectra`.
    """

    uses_data: ClassVar[bool] = False
    bounds: ClassVar[Ranges] = {"min_eigenvalues": at_least(2)}

    quantity: Quantity = "alpha"
    min_eigenvalues: int = 50
    kernel: Kernel = "matrix"

    def needs(self) -> Sequence[Need[Any]]:
        """The singular values of all layers."""
        return [LayerSpectra(self.kernel)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Fit each layer with enough eigenvalues, and average."""
        fits: dict[str, dict[str, float]] = {}
        undefined: dict[str, str] = {}
        for layer in measurement.of(LayerSpectra(self.kernel)):
            count = len(layer.eigenvalues)
            if count < self.min_eigenvalues:
                undefined[layer.name] = (
                    f"{count} eigenvalues that are not zero, of at least "
                    f"{self.min_eigenvalues} that a tail needs"
                )
                continue
            try:
                fits[layer.name] = _fit(layer)
            except DataError:
                undefined[layer.name] = "eigenvalues that are all equal"
        return mean_over_layers(
            fits, self.quantity, undefined, fix="lower min_eigenvalues="
        )


def _fit(layer: LayerSpectrum) -> dict[str, float]:
    eigenvalues = layer.eigenvalues
    tail = fit_tail(eigenvalues)
    logs = np.log10(eigenvalues)
    # The largest term is taken out, so that no power overflows.
    rest = math.fsum(10 ** (tail.exponent * (logs - logs[0])))
    alpha_hat = tail.exponent * float(logs[0])
    return {
        "alpha": tail.exponent,
        "stderr": tail.stderr,
        "start": tail.start,
        "points": tail.points,
        "distance": tail.distance,
        "alpha_hat": alpha_hat,
        "log_alpha_norm": alpha_hat + math.log10(rest),
        "eigenvalues": len(eigenvalues),
    }
