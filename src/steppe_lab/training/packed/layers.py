"""Layers with the weights of K networks, which take the batches of all of them.

Inputs and outputs have K * B rows: those of the first network, then those of the second
one. Whatever treats rows one by one, such as activations, pooling and reshaping, stands
between such layers as it is.

Shape letters: K networks, B batch, C and H channels in and out, S pixels of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe_lab.training.packed.current import Current

# Below so many numbers of one network in a layer's input, calls cost more than copies.
_SMALL_NORM = 8192
# Up to so many pixels, one grouped convolution is faster than K convolutions.
_SMALL_IMAGE = 100


class PackedLinear(nn.Module):
    """K fully connected layers: one product of K matrices."""

    def __init__(self, layer: nn.Linear, current: Current) -> None:
        super().__init__()
        self._weight = current.parameter(layer.weight)
        self._bias = current.parameter(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._weight(), self._bias()
        if weight is None:
            raise RuntimeError("a fully connected layer has a weight")
        rows = x.reshape(len(weight), -1, x.shape[-1])
        y: Tensor = _Products.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], y.shape[-1])


class _Products(torch.autograd.Function):
    """x W^T + b of each network, with gradients in the layout of the parameters."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        of_x = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
        of_bias = grad.sum(1) if ctx.has_bias else None
        return of_x, torch.bmm(grad.transpose(1, 2), x), of_bias


class PackedConv2d(nn.Module):
    """K convolutions: a grouped one for small images, else one after the other."""

    def __init__(self, layer: nn.Conv2d, current: Current) -> None:
        super().__init__()
        self._weight = current.parameter(layer.weight)
        self._bias = current.parameter(layer.bias)
        self._how: Any = (layer.stride, layer.padding, layer.dilation)
        self._groups = layer.groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self._weight(), self._bias()
        if weight is None:
            raise RuntimeError("a convolution has a weight")
        count = len(weight)
        images = x.view(count, -1, *x.shape[1:])
        if count == 1 or x.shape[-2] * x.shape[-1] > _SMALL_IMAGE:
            biases = [None] * count if bias is None else bias.unbind(0)
            each = zip(images.unbind(0), weight.unbind(0), biases, strict=True)
            return torch.cat([self._convolved(*own, self._groups) for own in each])
        beside = images.transpose(0, 1).flatten(1, 2)  # (B, K C, ...)
        flat = None if bias is None else bias.flatten()
        groups = count * self._groups
        y = self._convolved(beside, weight.flatten(0, 1), flat, groups)
        y = y.view(len(y), count, -1, *y.shape[2:])
        return y.transpose(0, 1).flatten(0, 1)

    def _convolved(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int
    ) -> Tensor:
        stride, padding, dilation = self._how
        y: Tensor = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        return y


class PackedBatchNorm(nn.Module):
    """K batch norms, each over the batch of its network."""

    def __init__(self, layer: nn.BatchNorm1d, current: Current) -> None:
        super().__init__()
        self._weight = current.parameter(layer.weight)
        self._bias = current.parameter(layer.bias)
        self._mean = current.buffer(layer.running_mean)
        self._variance = current.buffer(layer.running_var)
        self._batches = current.buffer(layer.num_batches_tracked)
        self._momentum, self._eps = float(layer.momentum or 0.0), layer.eps
        self._current = current

    def forward(self, x: Tensor) -> Tensor:
        count = self._current.count
        mean, variance, batches = self._mean(), self._variance(), self._batches()
        on_batch = self.training or mean is None
        if self.training and not self._current.statistics:
            mean = variance = batches = None
        if self.training and batches is not None:
            batches += 1
        tensors = (mean, variance, self._weight(), self._bias())
        if x[0].numel() * (len(x) // count) <= _SMALL_NORM:
            flat = [None if t is None else t.flatten() for t in tensors]
            beside = x.view(count, -1, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
            y = self._normed(beside, flat, on_batch)
            return y.view(len(y), count, -1, *x.shape[2:]).transpose(0, 1).flatten(0, 1)
        of_each = [[None] * count if t is None else t.unbind(0) for t in tensors]
        rows = x.view(count, -1, *x.shape[1:]).unbind(0)
        each = zip(rows, zip(*of_each, strict=True), strict=True)
        return torch.cat([self._normed(own, t, on_batch) for own, t in each])

    def _normed(
        self, x: Tensor, tensors: Sequence[Tensor | None], on_batch: bool
    ) -> Tensor:
        mean, variance, weight, bias = tensors
        momentum, eps = self._momentum, self._eps
        return F.batch_norm(x, mean, variance, weight, bias, on_batch, momentum, eps)


class PackedLayerNorm(nn.Module):
    """K layer norms."""

    def __init__(self, layer: nn.LayerNorm, current: Current) -> None:
        super().__init__()
        self._weight = current.parameter(layer.weight)
        self._bias = current.parameter(layer.bias)
        self._shape, self._eps = layer.normalized_shape, layer.eps
        self._current = current

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, self._shape, eps=self._eps)
        rows = y.reshape(self._current.count, -1, *self._shape)
        weight, bias = self._weight(), self._bias()
        if weight is not None:
            rows = rows * weight.unsqueeze(1)
        if bias is not None:
            rows = rows + bias.unsqueeze(1)
        return rows.view(x.shape)


Packed = Callable[..., nn.Module]
LAYERS: Mapping[type[nn.Module], Packed] = {
    nn.Linear: PackedLinear,
    nn.Conv2d: PackedConv2d,
    nn.BatchNorm1d: PackedBatchNorm,
    nn.BatchNorm2d: PackedBatchNorm,
    nn.LayerNorm: PackedLayerNorm,
}


def packed_layer(layer: nn.Module, current: Current) -> nn.Module | None:
    """The layer of K networks for one of them; None where there is none."""
    make = LAYERS.get(type(layer))
    if make is None:
        return None
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return None
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    if isinstance(layer, norms) and layer.momentum is None:
        return None  # a running mean over all batches so far
    return make(layer, current)
