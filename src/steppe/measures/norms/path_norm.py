"""Path norm: products of squared weights along all paths through the network.

Source: Neyshabur, Tomioka and Srebro, 2015, arXiv:1503.00036; as a measure Jiang et
al., 2020, arXiv:1912.02178, Equations 43 and 44 by the numbers that the code of
Dziugaite et al., 2020, arXiv:2010.11924, refers to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import Margins, tenth_percentile
from steppe.measures.needs.weights.layers import NetworkLayers, published_adjustment
from steppe.results import Estimate
from steppe.symmetries.batch_norm_folding import Layers, tensors_of_model


@MEASURES.add(
    "path_norm",
    source="Neyshabur, Tomioka and Srebro, 2015, arXiv:1503.00036",
    units="squared score per squared input",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
    ),
    needs=("layers",),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch, and one sample; with margin, another pass",
    networks="homogeneous",
)
@dataclass(frozen=True, kw_only=True)
class PathNorm(AbstractMeasure):
    """Sum over all paths from inputs to outputs of the product of squared weights.

    It is the sum of the outputs for an input of ones with all weights squared, after
    batch norm is folded into them. A path may begin at a bias, too. Pooling enters as
    it is: an average over k inputs has the weights 1 / k, as in the published code,
    which the square of a path would have as 1 / k^2. Of a maximum the largest paths
    count.

    Published as path-norm, with `margin` as path-norm over margin. The details hold
    `adjusted`, the root of the value over the number of loss terms.

    Args:
        margin: divide by the squared margin of `inverse_margin`.
    """

    margin: bool = False

    def needs(self) -> Sequence[Need[Any]]:
        """The layers, and the margins."""
        return [NetworkLayers(), *([Margins()] if self.margin else [])]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Send one sample of ones through the network of squares."""
        layers = measurement.of(NetworkLayers())
        _check(layers)
        objective = measurement.objective
        ones = torch.ones(
            (1, *(layers.size or ())), dtype=torch.float64, device=objective.device
        )
        with objective.measuring(), torch.no_grad():
            model = objective.model.eval()
            squares = layers.folded(tensors_of_model(model), torch.square)
            outputs = torch.func.functional_call(model, squares, (ones,))
            value = float(outputs.sum())
        details = {}
        if self.margin:
            details["percentile"] = margin = tenth_percentile(measurement.of(Margins()))
            value /= margin**2
        return Estimate(
            value=value,
            converged=math.isfinite(value),
            details=details | published_adjustment(value, objective.count()),
        )


def _check(layers: Layers) -> None:
    network = layers.structure
    for reason in (*network.not_piecewise_linear, *network.not_homogeneous):
        raise UsageError(
            "the path norm needs a positively homogeneous network, such as one of "
            f"ReLU, pooling and linear layers, but this one has {reason}; replace that "
            "operation, or measure spectral_norms."
        )
    if layers.size is None:
        raise UsageError(
            "the path norm needs a model that is called with one floating tensor of "
            "inputs, but this one takes something else; measure spectral_norms."
        )
