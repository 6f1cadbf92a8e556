"""Distance of the spectra of weight matrices to those of shuffled ones.

Source: Martin and Mahoney, 2021, JMLR 22(165), arXiv:1810.01075 (the comparison);
Villani, 2009, doi:10.1007/978-3-540-71050-9 (the distance).

Shape letters: M shuffles.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layer_spectra import (
    ONLY_ZEROS,
    Kernel,
    LayerSpectra,
    layer_matrices,
    mean_over_layers,
    singular_values,
)
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "shuffling_distance",
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
    cost_note="samples + 1 singular value decompositions of each weight matrix",
)
@dataclass(frozen=True, kw_only=True)
class ShufflingDistance(AbstractMeasure):
    """Distance of a layer's spectrum to that of its shuffled entries, mean over layers.

    It is the mean of |a_i - b_i| over the i-th largest eigenvalues of W'W, a of the
    layer and b of the same entries in random places, in units of their mean, which
    both have alike: the distance of Wasserstein between the two spectra. The standard
    error is over the shuffles.

    Difference from the published package: that gives the distance of Jensen and
    Shannon between two histograms, which depends on their bins.

    Args:
        samples: number of shuffles M, at least 2.
        kernel: how a convolution is a matrix, see `LayerSpectra`; all entries of a
            layer are shuffled together.
    """

    uses_data: ClassVar[bool] = False
    bounds: ClassVar[Ranges] = {"samples": at_least(2)}

    samples: int = 5
    kernel: Kernel = "matrix"

    def needs(self) -> Sequence[Need[Any]]:
        """The singular values of all layers."""
        return [LayerSpectra(self.kernel)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Shuffle, decompose, average; the standard error is over the shuffles."""
        layers = {each.name: each for each in measurement.of(LayerSpectra(self.kernel))}
        zeros = [name for name, each in layers.items() if not len(each.eigenvalues)]
        source = self.stream(measurement)
        matrices = layer_matrices(measurement.objective, self.kernel)
        draws = {
            name: [
                _distance(layers[name].values, _shuffled(stack, source))
                for _ in range(self.samples)
            ]
            for name, stack in matrices.items()
            if name not in zeros
        }
        means = {name: math.fsum(each) / len(each) for name, each in draws.items()}
        estimate = mean_over_layers(means, undefined=dict.fromkeys(zeros, ONLY_ZEROS))
        per_draw = np.mean(list(draws.values()), axis=0)
        stderr = float(per_draw.std(ddof=1)) / math.sqrt(self.samples)
        return dataclasses.replace(estimate, stderr=stderr, samples=self.samples)


def _shuffled(stack: Tensor, source: torch.Generator) -> NDArray[np.float64]:
    order = torch.randperm(stack.numel(), generator=source, device="cpu")
    entries = stack.flatten()[order.to(stack.device)]
    return singular_values(entries.view_as(stack))


def _distance(values: NDArray[np.float64], shuffled: NDArray[np.float64]) -> float:
    eigenvalues, by_chance = values**2, shuffled**2
    return float(np.abs(eigenvalues - by_chance).mean() / eigenvalues.mean())
