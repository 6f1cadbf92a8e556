"""Settings and tensors that nodes of the autograd graph save for their backward pass.

Torch calls these attributes private. All of them are read here, under the names of the
arguments of the operation.

Shape letters: C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node


@dataclass(frozen=True)
class ConvolutionSettings:
    """Settings of a convolution, an entry for each dimension of its kernel."""

    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool
    output_padding: tuple[int, ...] = ()  # of a transposed one


@dataclass(frozen=True)
class RunningStatistics:
    """Statistics that a batch norm in evaluation mode normalizes by."""

    mean: Tensor  # (C,)
    inverse_deviation: Tensor  # (C,)


def _saved(node: Node, name: str) -> Any:
    return getattr(node, f"_saved_{name}")


def output_shape(node: Node | None, number: int = 0) -> tuple[int, ...]:
    """Shape of a tensor that a node computed; () of none."""
    seen: Any = node
    if node is None:
        return ()
    return tuple(int(size) for size in seen._input_metadata[number].shape)


def layer_input(node: Node) -> Tensor:
    """Input of a convolution or a normalisation."""
    tensor: Tensor = _saved(node, "input")
    return tensor


def operand(node: Node, slot: int) -> Tensor:
    """One of the two inputs of an elementwise operation; slot 0 is the first.

    Torch saves it where the derivative by the other one needs it. An operation of one
    input has slot 0 alone.
    """
    tensor: Tensor = _saved(node, ("self", "other")[slot])
    return tensor


def first_matrix(node: Node) -> Tensor:
    """First matrix of the product of `addmm`."""
    tensor: Tensor = _saved(node, "mat1")
    return tensor


def product_factor(node: Node) -> float:
    """Factor alpha of the product in `addmm`, or of the second term of a sum."""
    return float(_saved(node, "alpha"))


def bias_factor(node: Node) -> float:
    """Factor beta of the matrix that `addmm` adds to the product."""
    return float(_saved(node, "beta"))


def convolution_settings(node: Node) -> ConvolutionSettings:
    """Settings of a convolution or a transposed convolution."""
    return ConvolutionSettings(
        padding=tuple(_saved(node, "padding")),
        stride=tuple(_saved(node, "stride")),
        dilation=tuple(_saved(node, "dilation")),
        groups=int(_saved(node, "groups")),
        transposed=bool(_saved(node, "transposed")),
        output_padding=tuple(_saved(node, "output_padding")),
    )


def convolution_has_bias(node: Node) -> bool:
    """Whether a convolution adds a bias, be it a constant."""
    return _saved(node, "bias_sym_sizes_opt") not in (None, (0,), [0])


def looked_up(node: Node) -> Tensor:
    """Row numbers that an embedding looked up."""
    tensor: Tensor = _saved(node, "indices")
    return tensor


def padding_row(node: Node) -> int:
    """Row of an embedding that stands for padding; -1 for none."""
    return int(_saved(node, "padding_idx"))


def scales_by_frequency(node: Node) -> bool:
    """Whether an embedding divides gradients by the frequency of a row in the batch."""
    return bool(_saved(node, "scale_grad_by_freq"))


def sample_statistics(node: Node) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation that a layer norm or group norm computed."""
    return _saved(node, "result1"), _saved(node, "result2")


def normalizes_by_batch(node: Node) -> bool:
    """Whether a batch norm used the statistics of the batch, not the running ones."""
    return bool(_saved(node, "training"))


def running_statistics(node: Node) -> RunningStatistics:
    """Running mean and inverse deviation of a batch norm."""
    # The kernels of GPUs save the same number under another name.
    eps = getattr(node, "_saved_eps", None)
    eps = _saved(node, "epsilon") if eps is None else eps
    variance: Tensor = _saved(node, "running_var")
    return RunningStatistics(_saved(node, "running_mean"), (variance + eps).rsqrt())


def running_mean(node: Node) -> Tensor:
    """Running mean of a batch norm, the buffer itself."""
    tensor: Tensor = _saved(node, "running_mean")
    return tensor


def running_variance(node: Node) -> Tensor:
    """Running variance of a batch norm, the buffer itself."""
    tensor: Tensor = _saved(node, "running_var")
    return tensor


def norm_weight(node: Node) -> Tensor:
    """Weight of a batch norm."""
    tensor: Tensor = _saved(node, "weight")
    return tensor


def bounded_by_nonzero(node: Node) -> bool:
    """Whether an operation that clamps has a bound or a threshold other than 0."""
    names = ("min", "max", "min_val", "max_val", "threshold")
    bounds = [getattr(node, f"_saved_{name}", None) for name in names]
    return any(
        b is not None and bool(torch.as_tensor(b, device="cpu").any()) for b in bounds
    )
