"""Gradients of single samples by the parameters, from those by outputs of operations.

Source: Goodfellow, 2015, arXiv:1510.01799: norms from inputs and gradients alone.

Shape letters: B samples, T rows of one sample.
"""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe.graphs.graph_attributes import looked_up, padding_row
from steppe.graphs.network_graph import Use

AT_ONCE = 2**22  # numbers in a temporary tensor, unless one sample needs more
KEPT = 2**26  # numbers of the inputs kept between columns, for one batch


@dataclass(frozen=True)
class Layout:
    """Where the samples are in the tensors of an operation.

    Attributes:
        axis: along which they are.
        samples: how many there are.
        major: the rows of one sample are neighbours.
    """

    axis: int
    samples: int
    major: bool

    def samples_first(self, t: Tensor) -> Tensor:
        """A view of the shape (B, ..., T, ...), T where the axis was."""
        rows = t.shape[self.axis] // self.samples
        if self.major:
            parts = torch.unflatten(t, self.axis, (self.samples, rows))
            return parts.movedim(self.axis, 0)
        parts = torch.unflatten(t, self.axis, (rows, self.samples))
        return parts.movedim(self.axis + 1, 0)


def layouts(shape: torch.Size, samples: int) -> Iterator[Layout]:
    """All places where a number of samples could be, the likeliest first."""
    # A layer may fold other dimensions into the one of the samples, as attention does
    # with its heads, so that the axis is a multiple of their number.
    for axis, size in enumerate(shape):
        if size and size % samples == 0:
            yield Layout(axis, samples, major=True)
            if size > samples > 1:
                yield Layout(axis, samples, major=False)


class CacheBudget:
    """Counts the numbers that may still be cached for one batch."""

    def __init__(self, numbers: int = KEPT) -> None:
        self.left = numbers

    def take(self, numbers: int) -> bool:
        """Whether there was room for so many more."""
        fits = numbers <= self.left
        self.left -= numbers if fits else 0
        return fits


class AbstractGradients(abc.ABC):
    """Gradients of the samples of one batch by one use of a parameter.

    Args:
        use: of the parameter.
        layout: of the samples in the outputs of the operation.
    """

    def __init__(self, use: Use, layout: Layout) -> None:
        self.use = use
        self.layout = layout

    @abc.abstractmethod
    def at_once(self, grad: Tensor) -> int:
        """Of how many samples the gradients fit into memory, at least 1."""

    @abc.abstractmethod
    def parts(self, grad: Tensor, step: int) -> Iterator[Tensor]:
        """Gradients of `step` samples after the other, shapes (b, *parameter's).

        Args:
            grad: gradient by the output of the operation.
            step: samples at a time.
        """

    @abc.abstractmethod
    def norms(self, grad: Tensor) -> Tensor:
        """Squared norms of the gradients, summed over the samples; shape ()."""

    @abc.abstractmethod
    def squares(self, grad: Tensor) -> Tensor:
        """Squares of the gradients, summed over the samples; the parameter's shape."""


class Reduced(AbstractGradients):
    """A parameter that is added to, or multiplied with, others of larger shape.

    Args:
        shape: that of the parameter, as broadcast against the outputs.
        result: that of the parameter itself.
        factor: what the gradient is multiplied with, None for 1.
    """

    def __init__(
        self,
        use: Use,
        layout: Layout,
        shape: tuple[int, ...],
        result: tuple[int, ...],
        factor: Tensor | float = 1.0,
    ) -> None:
        super().__init__(use, layout)
        self.shape = shape
        self.result = result
        self.factor = factor

    def at_once(self, grad: Tensor) -> int:
        """All of them where the parameter is small."""
        return max(1, AT_ONCE // max(1, math.prod(self.shape)))

    def parts(self, grad: Tensor, step: int) -> Iterator[Tensor]:
        """Sums over all but the samples and the parameter's dimensions."""
        shape = [1] * (grad.dim() - len(self.shape)) + list(self.shape)
        unscaled = isinstance(self.factor, float) and self.factor == 1
        scaled = self.layout.samples_first(grad if unscaled else grad * self.factor)
        summed = [i + 1 for i, size in enumerate(shape) if size == 1]
        reduced = scaled.sum(summed) if summed else scaled
        for part in torch.split(reduced, step):
            yield part.reshape(len(part), *self.result)

    def norms(self, grad: Tensor) -> Tensor:
        """From the gradients, which are small."""
        parts = self.parts(grad, self.layout.samples)
        return total(part.square().sum() for part in parts)

    def squares(self, grad: Tensor) -> Tensor:
        """From the gradients, which are small."""
        parts = self.parts(grad, self.layout.samples)
        return total(part.square().sum(0) for part in parts)


class Gathered(AbstractGradients):
    """A table of vectors, some of which every sample looks up."""

    def __init__(self, use: Use, layout: Layout, table: Tensor) -> None:
        super().__init__(use, layout)
        indices = layout.samples_first(looked_up(use.operation)).flatten(1)
        self.shape = tuple(table.shape)
        self.padding = padding_row(use.operation)
        owners = torch.arange(len(indices), device=indices.device).unsqueeze(1)
        joined = (owners * self.shape[0] + indices).flatten()
        self.pairs, self.place = torch.unique(joined, return_inverse=True)

    def at_once(self, grad: Tensor) -> int:
        """As many whole tables as fit."""
        return max(1, AT_ONCE // math.prod(self.shape))

    def parts(self, grad: Tensor, step: int) -> Iterator[Tensor]:
        """Whole tables, most of whose rows are zero."""
        sums = self._sums(grad)
        for start in range(0, self.layout.samples, step):
            count = min(step, self.layout.samples - start)
            table = sums.new_zeros(count * self.shape[0], self.shape[1])
            at = self.pairs - start * self.shape[0]
            mine = (at >= 0) & (at < len(table))
            table[at[mine]] = sums[mine]
            yield table.view(count, *self.shape)

    def norms(self, grad: Tensor) -> Tensor:
        """Of the rows that each sample looks up."""
        return self._sums(grad).square().sum()

    def squares(self, grad: Tensor) -> Tensor:
        """Of the rows that each sample looks up, gathered in the table."""
        table = grad.new_zeros(self.shape)
        sums = self._sums(grad).square()
        return table.index_add_(0, self.pairs % self.shape[0], sums)

    def _sums(self, grad: Tensor) -> Tensor:
        """Of the gradients for each pair of a sample and a row it looks up."""
        rows = self.layout.samples_first(grad).reshape(-1, self.shape[1])
        sums = grad.new_zeros(len(self.pairs), self.shape[1])
        sums.index_add_(0, self.place, rows)
        counted: Tensor = self.pairs % self.shape[0] != self.padding
        return sums * counted.unsqueeze(1)


def total(parts: Iterable[Tensor]) -> Tensor:
    """Sum of tensors, in float64."""
    summed: Tensor = functools.reduce(torch.add, (part.double() for part in parts))
    return summed


def norms_of(uses: list[AbstractGradients], grads: list[Tensor]) -> Tensor:
    """Sum of the squares of the gradients by a parameter, over its uses together."""
    if len(uses) == 1:
        return uses[0].norms(grads[0])
    return total(part.square().sum() for part in _joined(uses, grads))


def squares_of(uses: list[AbstractGradients], grads: list[Tensor]) -> Tensor:
    """Squares of the gradients by a parameter, summed over samples, entry by entry."""
    if len(uses) == 1:
        return uses[0].squares(grads[0])
    return total(part.square().sum(0) for part in _joined(uses, grads))


def _joined(uses: list[AbstractGradients], grads: list[Tensor]) -> Iterator[Tensor]:
    """Gradients by a parameter of several uses, of some samples after the other."""
    pairs = list(zip(uses, grads, strict=True))
    step = min(use.at_once(grad) for use, grad in pairs)
    parts = [use.parts(grad, step) for use, grad in pairs]
    for pieces in zip(*parts, strict=True):
        yield torch.stack(pieces).sum(0)
