"""Second derivatives of convolutions and batch norm at the cost of the first ones.

Both are A(x, w) + b, with A linear in the input x and in the weight w (batch norm where
its statistics are constants). The backward pass is then linear in each of its
arguments too, and the derivatives of what it gives are A and the backward pass again,
with other arguments: for <h, A'_x(g, w)> + <v, A'_w(g, x)>

    by g: A(h, w) + A(x, v);    by x: A'_x(g, v);    by w: A'_w(g, h).

torch finds the same numbers in longer ways: those of a convolution by convolutions with
kernels as large as the picture, those of batch norm by a dozen elementwise passes.

Source: Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147, for these layers.

Shape letters: B rows, I and C channels in and out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.curvature.double_backward.engine import (
    Rule,
    applied,
    needed_inputs,
    transformed,
)

Pulled = tuple[Tensor | None, Tensor | None, Tensor | None]  # of input, weight, bias


class AbstractBilinear(ABC):
    """A map of an input and a weight, linear in each but for a constant offset.

    `fixed` are tensors that it takes beside these two, without a derivative.
    """

    @abstractmethod
    def forward(
        self, x: Tensor, w: Tensor | None, b: Tensor | None, *fixed: Tensor
    ) -> Tensor:
        """A(x, w) + b, shape (B, C, *)."""

    @abstractmethod
    def backward(
        self,
        needed: Sequence[bool],
        g: Tensor,
        x: Tensor,
        w: Tensor | None,
        *fixed: Tensor,
    ) -> Pulled:
        """Derivatives of <g, A(x, w) + b> by x, w and b; None for those not needed."""

    @abstractmethod
    def of_tangents(self, *fixed: Tensor) -> tuple[Tensor, ...]:
        """Constants in place of `fixed` that leave the offset of the map of x out."""


@dataclass(frozen=True)
class Convolution(AbstractBilinear):
    """Convolution, with torch's settings in the order of its operations."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    @classmethod
    def of(
        cls,
        dims: int,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        output_padding: Any = None,
    ) -> Self:
        """From settings that are one number, or one for each of `dims` dimensions."""
        return cls(
            stride=_each(stride, dims),
            padding=_each(padding, dims),
            dilation=_each(dilation, dims),
            transposed=output_padding is not None,
            output_padding=_each(output_padding or 0, dims),
            groups=groups,
        )

    def forward(
        self, x: Tensor, w: Tensor | None, b: Tensor | None, *_: Tensor
    ) -> Tensor:
        output: Tensor = torch.ops.aten.convolution(x, w, b, *vars(self).values())
        return output

    def backward(
        self,
        needed: Sequence[bool],
        g: Tensor,
        x: Tensor,
        w: Tensor | None,
        *_: Tensor,
    ) -> Pulled:
        grads: Pulled = torch.ops.aten.convolution_backward(
            g, x, w, [g.shape[1]], *vars(self).values(), list(needed)
        )
        # In one dimension torch may give what was not asked for, in another shape.
        by_x, by_w, by_b = map(_only, grads, needed)
        return by_x, by_w, by_b

    def of_tangents(self, *fixed: Tensor) -> tuple[Tensor, ...]:
        return fixed


@dataclass(frozen=True)
class BatchNorm(AbstractBilinear):
    """Batch norm with constant mean and variance, each of shape (C,)."""

    eps: float

    def forward(
        self, x: Tensor, w: Tensor | None, b: Tensor | None, *fixed: Tensor
    ) -> Tensor:
        mean, variance = fixed
        settings = (False, 0.0, self.eps)
        return torch.native_batch_norm(x, w, b, mean, variance, *settings)[0]

    def backward(
        self,
        needed: Sequence[bool],
        g: Tensor,
        x: Tensor,
        w: Tensor | None,
        *fixed: Tensor,
    ) -> Pulled:
        of_batch = (g.new_empty(0), g.new_empty(0))
        grads: Pulled = torch.ops.aten.native_batch_norm_backward(
            g, x, w, *fixed, *of_batch, False, self.eps, list(needed)
        )
        return grads

    def of_tangents(self, *fixed: Tensor) -> tuple[Tensor, ...]:
        mean, variance = fixed
        return torch.zeros_like(mean), variance


class Bilinear(torch.autograd.Function):
    """A(x, w) + b."""

    @staticmethod
    def forward(
        ctx: Any,
        op: AbstractBilinear,
        x: Tensor,
        w: Tensor | None,
        b: Tensor | None,
        *fixed: Tensor,
    ) -> Tensor:
        ctx.op = op
        ctx.present = (True, w is not None, b is not None)
        ctx.unneeded = (None,) * len(fixed)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w, *fixed)
        return op.forward(x, w, b, *fixed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        (g,) = grads
        needed = needed_inputs(ctx, ctx.present, 1)
        if g is None or not any(needed):
            return None, None, None, None, *ctx.unneeded
        arguments = (needed, g, *ctx.saved_tensors)
        if transformed(g):
            return None, *ctx.op.backward(*arguments), *ctx.unneeded
        return None, *applied(BilinearPull, ctx.op, *arguments), *ctx.unneeded


class BilinearPull(torch.autograd.Function):
    """The derivatives of <g, A(x, w) + b> by x, w and b."""

    @staticmethod
    def forward(
        ctx: Any,
        op: AbstractBilinear,
        needed: Sequence[bool],
        g: Tensor,
        x: Tensor,
        w: Tensor | None,
        *fixed: Tensor,
    ) -> Pulled:
        ctx.op = op
        ctx.unneeded = (None,) * len(fixed)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, w, *fixed)
        return op.backward(needed, g, x, w, *fixed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        h, v, c = grads
        g, x, w, *fixed = ctx.saved_tensors
        by_g, by_x, by_w = needed_inputs(ctx, (True, True, w is not None), 2)
        tangents = ctx.op.of_tangents(*fixed)
        # A is linear in x and in w: the derivative of <g, A(x, w)> by one of them is A
        # again, with a tangent in place of the other, and needs no kernel of its own.
        terms = []
        if by_g and h is not None:
            terms.append(ctx.op.forward(h, w, None, *tangents))
        if by_g and v is not None:
            terms.append(ctx.op.forward(x, v, c, *fixed))
        elif by_g and c is not None:
            terms.append(c.view(1, -1, *[1] * (g.dim() - 2)).expand_as(g))
        along = sum(terms[1:], terms[0]) if terms else None
        pulled = (by_x and v is not None, by_w and h is not None, False)
        pulled_back: Sequence[Tensor | None] = (None, None)
        if any(pulled):
            # What stands in for an argument that is missing gives its shape alone.
            h, v = x if h is None else h, w if v is None else v
            pulled_back = ctx.op.backward(pulled, g, h, v, *tangents)
        return None, None, along, pulled_back[0], pulled_back[1], *ctx.unneeded


def _only(grad: Tensor | None, needed: bool) -> Tensor | None:
    return grad if needed else None


def _apply(op: AbstractBilinear, *arguments: Tensor | None) -> Tensor:
    output: Tensor = applied(Bilinear, op, *arguments)
    return output


def _convolution(dims: int) -> Rule:
    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor | None:
        if padding == "valid":
            padding = 0
        if isinstance(padding, str) or not _batched(input, weight, dims):
            return None
        op = Convolution.of(dims, stride, padding, dilation, groups)
        return _apply(op, input, weight, bias)

    return convolve


def _transposed(dims: int) -> Rule:
    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor | None:
        if not _batched(input, weight, dims):
            return None
        op = Convolution.of(dims, stride, padding, dilation, groups, output_padding)
        return _apply(op, input, weight, bias)

    return convolve


def _batched(input: Tensor, weight: Tensor, dims: int) -> bool:
    return input.dim() == weight.dim() == dims + 2


def _each(number: Any, dims: int) -> list[int]:
    """One number for each dimension."""
    several = isinstance(number, list | tuple)
    numbers = list(number) if several else [int(number)]
    return numbers * dims if len(numbers) == 1 else numbers


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Tensor | None:
    if training or running_mean is None or running_var is None:
        return None
    fixed = (running_mean, running_var)
    if any(t.requires_grad for t in fixed) or input.dim() < 2:
        return None
    if any(
        t is not None and t.shape != input.shape[1:2] for t in (weight, bias, *fixed)
    ):
        return None
    return _apply(BatchNorm(eps), input, weight, bias, *fixed)


RULES: dict[Any, Rule] = {
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    torch.conv3d: _convolution(3),
    torch.conv_transpose1d: _transposed(1),
    torch.conv_transpose2d: _transposed(2),
    torch.conv_transpose3d: _transposed(3),
    F.batch_norm: _batch_norm,
}
