"""Singular values of all weight matrices, which no data is needed for.

A layer is a measured parameter of at least two dimensions. It is read as a matrix whose
rows are its outputs.

Shape letters: R rows, C columns of a matrix, K positions of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steppe.errors import UsageError
from steppe.measures.measurement import Measurement, Need
from steppe.objective import Objective
from steppe.results import Estimate

Kernel = Literal["matrix", "positions"]
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
ONLY_ZEROS = "no entry other than zero"


@dataclass(frozen=True, eq=False)
class LayerSpectrum:
    """Singular values of one layer."""

    name: str  # of the parameter
    rows: int  # R, of each matrix
    columns: int  # C
    values: NDArray[np.float64]  # (K min(R, C),) or (min(R, C),), descending

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """Of W'W, but for those that are zero up to rounding; descending."""
        least = np.finfo(np.float64).eps * max(self.rows, self.columns)
        kept = self.values[self.values > least * self.values[0]]
        squares: NDArray[np.float64] = kept**2
        return squares


@dataclass(frozen=True)
class LayerSpectra(Need[tuple[LayerSpectrum, ...]]):
    """Singular values of all layers, in the order of the parameters.

    Args:
        kernel: "matrix" reads a convolution as the matrix (outputs, inputs times kernel
            size), "positions" as a matrix (outputs, inputs) for each position of the
            kernel, whose singular values are pooled.
    """

    kind: ClassVar[str] = "singular values"

    kernel: Kernel = "matrix"

    def serve(self, measurement: Measurement) -> tuple[LayerSpectrum, ...]:
        """Decompose each matrix once, in float64."""
        # Inside, so that a model with other parameters than the objective is refused.
        with measurement.objective.measuring(), torch.no_grad():
            layers = layer_matrices(measurement.objective, self.kernel)
            if not layers:
                raise UsageError(
                    "this measure needs a weight matrix, but no parameter has two or "
                    "more dimensions; set requires_grad on the weights to measure."
                )
            return tuple(
                LayerSpectrum(name, *_sizes(stack), singular_values(stack))
                for name, stack in layers.items()
            )


def layer_matrices(objective: Objective, kernel: Kernel) -> dict[str, Tensor]:
    """Stacks of matrices by name of the parameter, shape (1 or K, R, C), float64."""
    turned = {
        module.weight
        for module in objective.model.modules()
        if isinstance(module, TRANSPOSED)
    }
    return {
        name: _stack(p, p in turned, kernel)
        for name, p in zip(objective.names, objective.params, strict=True)
        if p.dim() > 1
    }


def singular_values(stack: Tensor) -> NDArray[np.float64]:
    """Pooled singular values of matrices, descending, on the host."""
    values = torch.linalg.svdvals(stack).flatten().sort(descending=True).values
    singular: NDArray[np.float64] = values.cpu().numpy()
    return singular


def mean_over_layers(
    by_layer: Mapping[str, float | Mapping[str, float]],
    of: str = "",
    undefined: Mapping[str, str] | None = None,
    fix: str = "",
    **details: Any,
) -> Estimate:
    """The mean of a number over the layers that have it.

    Args:
        by_layer: the number by name of the layer, or several of which `of` is averaged.
        of: name of the number.
        undefined: why other layers have none, by name.
        fix: what lets a layer have it, for the message where none does.
        details: beside them.

    Raises:
        UsageError: no layer has it.
    """
    undefined = undefined or {}
    if not by_layer:
        name, reason = next(iter(undefined.items()))
        ending = f"; {fix}" if fix else ""
        raise UsageError(f"no layer can be measured: {name} has {reason}{ending}.")
    numbers = [
        layer[of] if isinstance(layer, Mapping) else layer
        for layer in by_layer.values()
    ]
    mean = math.fsum(numbers) / len(numbers)
    return Estimate(
        value=mean,
        converged=math.isfinite(mean),
        details={"by_layer": by_layer, "undefined": undefined, **details},
    )


def _sizes(stack: Tensor) -> tuple[int, int]:
    return stack.shape[1], stack.shape[2]


def _stack(weight: nn.Parameter, turned: bool, kernel: Kernel) -> Tensor:
    by_output = weight.detach().double()
    if turned:  # transposed convolutions have their inputs first
        by_output = by_output.transpose(0, 1)
    if kernel == "positions" and by_output.dim() > 2:
        return by_output.flatten(2).movedim(2, 0)
    return by_output.flatten(1)[None]
