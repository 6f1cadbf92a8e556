"""Gradients of single samples by weights: sums over positions of outer products.

Source: Rochette et al., 2019, arXiv:1912.06015 (convolutions); Li et al., 2021,
arXiv:2110.05679, section 4.2 (norms of sums over positions from two Gram matrices).

Shape letters: B samples, R rows of an operation, T rows of one sample, P positions, G
groups, I and O numbers of one position's inputs and outputs in a group.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.curvature.per_sample.gradients import (
    AT_ONCE,
    AbstractGradients,
    CacheBudget,
    Layout,
    total,
)
from steppe.graphs.graph_attributes import (
    convolution_settings,
    output_shape,
)
from steppe.graphs.network_graph import Use


class AbstractOuter(AbstractGradients):
    """A weight whose gradient is a sum over positions of outer products.

    Args:
        data: inputs of the operation, samples first: shape (B, T, ...).
        shape: of the parameter.
        columns: backward passes to come, which decide what is worth preparing.
        room: what may be kept between them.
    """

    def __init__(
        self,
        use: Use,
        layout: Layout,
        data: Tensor,
        shape: tuple[int, ...],
        columns: int,
        room: CacheBudget,
    ) -> None:
        super().__init__(use, layout)
        self.data = layout.samples_first(data)
        self.shape = shape
        self.columns = columns
        self.room = room
        self._cache: dict[tuple[str, int, int], Tensor] = {}

    @abc.abstractmethod
    def inputs(self, data: Tensor) -> Tensor:
        """Of rows of some samples, shape (b, T, ...): shape (b, G, P, I)."""

    @abc.abstractmethod
    def outputs(self, grad: Tensor) -> Tensor:
        """Gradients of rows of some samples, (b, T, ...): shape (b, G, P, O)."""

    @abc.abstractmethod
    def sizes(self, grad: Tensor) -> tuple[int, int, int, int]:
        """The numbers G, P, I and O."""

    @abc.abstractmethod
    def arranged(self, product: Tensor) -> Tensor:
        """A product (b, G, O, I) as gradients, shape (b, *parameter's)."""

    def at_once(self, grad: Tensor) -> int:
        """As many gradients with their factors as fit."""
        groups, positions, inner, outer = self.sizes(grad)
        each = groups * (inner * outer + positions * (inner + outer))
        return max(1, AT_ONCE // each)

    def parts(self, grad: Tensor, step: int) -> Iterator[Tensor]:
        """Products of the gradients with the inputs, summed over positions."""
        for inputs, outputs in self._pieces(grad, "inputs", step):
            yield self.arranged(outputs.mT @ inputs)

    def norms(self, grad: Tensor) -> Tensor:
        """By Gram matrices of the positions where that is less work."""
        # |X' G|^2 = <X X', G G'>: the Gram matrices have a row for each position, the
        # gradient an entry for each pair of channels. That of the inputs is the same
        # for all backward passes.
        groups, positions, inner, outer = self.sizes(grad)
        gram_work = positions**2 * (inner / self.columns + outer)
        if positions > 1 and gram_work > positions * inner * outer:
            parts = self.parts(grad, self.at_once(grad))
            return total(part.square().sum() for part in parts)
        each = groups * (2 * positions**2 + positions * (inner + outer))
        pieces = self._pieces(grad, "gram", max(1, AT_ONCE // each))
        squares = total((gram * _gram(outputs)).sum() for gram, outputs in pieces)
        return squares.clamp(min=0)  # what is nearly zero may round to below it

    def squares(self, grad: Tensor) -> Tensor:
        """Without the gradients where there is one position."""
        if self.sizes(grad)[1] > 1:
            parts = self.parts(grad, self.at_once(grad))
            return total(part.square().sum(0) for part in parts)
        pieces = self._pieces(grad, "inputs", self.layout.samples)
        summed = total(
            torch.einsum("bgpo,bgpi->goi", outputs.square(), inputs.square())
            for inputs, outputs in pieces
        )
        return self.arranged(summed.unsqueeze(0))[0]

    def _pieces(
        self, grad: Tensor, kind: str, step: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Prepared inputs and gradients, some samples at a time."""
        grads = self.layout.samples_first(grad)
        for start in range(0, self.layout.samples, step):
            rows = slice(start, start + step)
            yield self._prepared(kind, rows), self.outputs(grads[rows])

    def _prepared(self, kind: str, rows: slice) -> Tensor:
        key = (kind, rows.start, rows.stop)
        if key in self._cache:
            return self._cache[key]
        factor = self.inputs(self.data[rows])
        factor = _gram(factor) if kind == "gram" else factor
        if self.columns > 1 and self.room.take(factor.numel()):
            self._cache[key] = factor
        return factor


class Linear(AbstractOuter):
    """The weight of a product with rows; (O, I), or (I, O) as it stands."""

    def inputs(self, data: Tensor) -> Tensor:
        """One group."""
        return data.unsqueeze(1)

    def outputs(self, grad: Tensor) -> Tensor:
        """One group."""
        return grad.unsqueeze(1)

    def sizes(self, grad: Tensor) -> tuple[int, int, int, int]:
        """Positions are the rows of one sample."""
        return 1, self.data.shape[1], self.data.shape[2], grad.shape[1]

    def arranged(self, product: Tensor) -> Tensor:
        """Transposed where the parameter was."""
        product = product.squeeze(1)
        return product if self.use.transposed else product.mT


class AbstractConvolution(AbstractOuter):
    """A kernel of any dimension, with groups, strides, dilations and padding."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.node = self.use.operation
        self.settings = convolution_settings(self.node)
        self.kernel = self.shape[2:]

    def pixels(self, t: Tensor) -> Tensor:
        """The channels at every position of rows (b, T, C, ...)."""
        return self._grouped(t.flatten(0, 1).flatten(2), t)

    def patches(self, t: Tensor, sites: tuple[int, ...]) -> Tensor:
        """Receptive fields of the kernel at every position, of rows (b, T, C, ...)."""
        padding = [p for p in reversed(self.settings.padding) for _ in "ab"]
        seen = F.pad(t.flatten(0, 1), padding)
        steps = zip(
            self.kernel, self.settings.stride, self.settings.dilation, strict=True
        )
        for axis, (size, stride, dilation) in enumerate(steps, start=2):
            seen = seen.unfold(axis, (size - 1) * dilation + 1, stride)
            seen = seen[..., ::dilation].narrow(axis, 0, sites[axis - 2])
        count = len(self.kernel)
        kernel, places = range(2 + count, 2 + 2 * count), range(2, 2 + count)
        # With places last, copying them is several times faster than with them first.
        ordered = seen.permute(0, 1, *kernel, *places)
        return self._grouped(ordered.flatten(1, 1 + count).flatten(2), t)

    def _grouped(self, columns: Tensor, like: Tensor) -> Tensor:
        """(R, G I, P) as (b, G, T P, I)."""
        split = torch.unflatten(columns, 1, (self.settings.groups, -1))
        rows = torch.unflatten(split, 0, like.shape[:2]).movedim(1, 3)
        return rows.flatten(3).mT


class Convolution(AbstractConvolution):
    """The kernel of a convolution, shape (G O, I / k, *kernel)."""

    def inputs(self, data: Tensor) -> Tensor:
        """The patch that every output position sees."""
        return self.patches(data, output_shape(self.node)[2:])

    def outputs(self, grad: Tensor) -> Tensor:
        """The channels of every output position."""
        return self.pixels(grad)

    def sizes(self, grad: Tensor) -> tuple[int, int, int, int]:
        """Positions are the output pixels of all rows of one sample."""
        groups = self.settings.groups
        positions = self.data.shape[1] * grad.shape[2:].numel()
        inner = self.shape[1] * math.prod(self.kernel)
        return groups, positions, inner, self.shape[0] // groups

    def arranged(self, product: Tensor) -> Tensor:
        """Output channels of all groups after each other."""
        return product.reshape(len(product), *self.shape)


class TransposedConvolution(AbstractConvolution):
    """The kernel of a transposed convolution, shape (G I, O / k, *kernel)."""

    def inputs(self, data: Tensor) -> Tensor:
        """The channels of every input position."""
        return self.pixels(data)

    def outputs(self, grad: Tensor) -> Tensor:
        """The patch that every input position reaches."""
        return self.patches(grad, tuple(self.data.shape[3:]))

    def sizes(self, grad: Tensor) -> tuple[int, int, int, int]:
        """Positions are the input pixels of all rows of one sample."""
        groups = self.settings.groups
        positions = self.data.shape[1] * math.prod(self.data.shape[3:])
        outer = self.shape[1] * math.prod(self.kernel)
        return groups, positions, self.shape[0] // groups, outer

    def arranged(self, product: Tensor) -> Tensor:
        """Input channels of all groups after each other."""
        return product.mT.reshape(len(product), *self.shape)


def _gram(t: Tensor) -> Tensor:
    """Products of all pairs of positions, shape (b, G, P, P)."""
    if t.shape[-2] == 1:
        return t.square().sum(-1, keepdim=True)
    return t @ t.mT
