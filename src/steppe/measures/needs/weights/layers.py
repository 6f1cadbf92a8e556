"""Layers of the evaluated network with batch norm folded into them, and their norms.

Source: Jiang et al., 2020, arXiv:1912.02178, and Dziugaite et al., 2020,
arXiv:2010.11924, which fold batch norm before they measure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from steppe.errors import DataError, SettingError
from steppe.linalg.convolution_norms import SpectralNorm, circular_norm, operator_norm
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.references import StartTensors
from steppe.symmetries.batch_norm_folding import (
    Layer,
    Layers,
    find_layers,
    tensors_of_model,
)

Of = Literal["weights", "change"]
Norm = Literal["spectral", "frobenius"]
Convolution = Literal["operator", "matrix", "circular"]


@dataclass(frozen=True)
class NetworkLayers(Need[Layers]):
    """Linear maps of the network, from one pass over the first batch."""

    kind: ClassVar[str] = "layers"

    def serve(self, measurement: Measurement) -> Layers:
        """Read the graph of the outputs."""
        return find_layers(measurement.objective)


@dataclass(frozen=True)
class FoldedWeights(Need[dict[str, Tensor]]):
    """Weights of all layers with their batch norm, by name of the layer, float64.

    Args:
        of: the "weights" as they are, or their "change" since the start of the
            training, where batch norm is folded with the statistics of then.
    """

    kind: ClassVar[str] = "folded weights"

    of: Of = "weights"

    def serve(self, measurement: Measurement) -> dict[str, Tensor]:
        """Fold."""
        start = measurement.of(StartTensors()) if self.of == "change" else None
        network = measurement.of(NetworkLayers())
        with measurement.objective.measuring(), torch.no_grad():
            tensors = tensors_of_model(measurement.objective.model)
            weights = {each.name: each.weight(tensors) for each in network.layers}
            if start is None:
                return weights
            for layer in network.layers:
                _check_start(layer, tensors, start)
            return {
                each.name: weights[each.name] - each.weight(start)
                for each in network.layers
            }


class LayerNorms(NamedTuple):
    """Norms of the matrices of all layers."""

    by_layer: dict[str, float]
    converged: bool

    @property
    def squares(self) -> list[float]:
        """Squared norms, in the order of the layers."""
        return [norm**2 for norm in self.by_layer.values()]


@dataclass(frozen=True)
class NormsOfLayers(Need[LayerNorms]):
    """Norms of the folded weights, layer by layer.

    Args:
        norm: "frobenius" is that of all entries of the weight.
        of: the "weights", or their "change" since the start of the training.
        convolution: spectral norm of a convolution: that of the "operator" between
            its inputs and outputs, at the size of the inputs in the first batch, with
            its stride, padding and dilation; that of the "matrix" (outputs, inputs
            times kernel size); or that of the "circular" convolution without stride.
    """

    kind: ClassVar[str] = "norms of layers"

    norm: Norm
    of: Of = "weights"
    convolution: Convolution = "operator"

    def serve(self, measurement: Measurement) -> LayerNorms:
        """Take the norm of each weight."""
        weights = measurement.of(FoldedWeights(self.of))
        layers = measurement.of(NetworkLayers()).layers
        with measurement.objective.measuring(), torch.no_grad():
            norms = {
                layer.name: self._norm(layer, weights[layer.name], measurement, number)
                for number, layer in enumerate(layers)
            }
        return LayerNorms(
            {name: norm.value for name, norm in norms.items()},
            all(norm.converged for norm in norms.values()),
        )

    def _norm(
        self, layer: Layer, weight: Tensor, measurement: Measurement, number: int
    ) -> SpectralNorm:
        if self.norm == "frobenius":
            return SpectralNorm(float(torch.linalg.vector_norm(weight)))
        if layer.kind == "batch norm":  # a diagonal matrix
            return SpectralNorm(float(weight.abs().max()))
        settings = layer.convolution
        if settings is None or self.convolution == "matrix":
            by_output = weight.movedim(layer.outputs, 0).flatten(1)
            return SpectralNorm(float(torch.linalg.matrix_norm(by_output, 2)))
        if self.convolution == "circular":
            return circular_norm(weight, settings, layer.size)
        generator = measurement.stream("norm of a convolution", number)
        return operator_norm(weight, settings, layer.size, generator)


def log_product(norms: LayerNorms) -> float:
    """Logarithm of the product of the squared norms.

    Raises:
        DataError: there are none, or one is 0.
    """
    for name, norm in norms.by_layer.items():
        if not norm > 0:
            raise DataError(
                f"a product of norms needs layers that are not zero, but {name} has "
                f"the norm {norm:g}; leave it out by requires_grad_(False)."
            )
    return math.fsum(2 * math.log(norm) for norm in norms.by_layer.values())


def published_adjustment(value: float, terms: int, log: bool = False) -> dict[str, Any]:
    """The value as the published tables have it, adjusted for the size of the data.

    Args:
        value: of a measure.
        terms: number of loss terms m.
        log: the value is a logarithm, for (value - log m) / 2 in place of
            sqrt(value / m).
    """
    if log:
        return {"adjusted": (value - math.log(terms)) / 2}
    # A PAC-Bayes term is negative where the noise is larger than all weights.
    return {"adjusted": math.sqrt(value / terms) if value >= 0 else math.nan}


def _check_start(
    layer: Layer, own: dict[str, Tensor], start: dict[str, Tensor]
) -> None:
    for name in layer.tensors_read():
        if name in own and name not in start:
            raise SettingError(
                "start must have the parameters and buffers of the measured network, "
                f"but it has no {name}; give the network or its whole state_dict."
            )
