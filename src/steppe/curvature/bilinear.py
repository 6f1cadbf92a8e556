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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Pulled = tuple[Tensor | None, Tensor | None, Tensor | None]  # of input, weight, bias
# Tells the innermost hooks on saved tensors; from torch 2.8 on.
SAVING = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)


class AbstractBilinear(ABC):
    """A map of an input and a weight, linear in each but for a constant offset."""

    @property
    @abstractmethod
    def linear(self) -> AbstractBilinear:
        """The same map without offset of the input."""

    @abstractmethod
    def times(self, x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        """A(x, w) + b, shape (B, C, *)."""

    @abstractmethod
    def pull(
        self, g: Tensor, x: Tensor, w: Tensor | None, wanted: Sequence[bool]
    ) -> Pulled:
        """Derivatives of <g, A(x, w) + b> by x, w and b, those that are wanted."""


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

    @property
    def linear(self) -> Self:
        return self

    def times(self, x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        found: Tensor = torch.ops.aten.convolution(x, w, b, *vars(self).values())
        return found

    def pull(
        self, g: Tensor, x: Tensor, w: Tensor | None, wanted: Sequence[bool]
    ) -> Pulled:
        found: Pulled = torch.ops.aten.convolution_backward(
            g, x, w, [g.shape[1]], *vars(self).values(), list(wanted)
        )
        return found


@dataclass(frozen=True)
class BatchNorm(AbstractBilinear):
    """Batch norm with constant statistics, each of shape (C,)."""

    mean: Tensor
    variance: Tensor
    eps: float

    @property
    def linear(self) -> Self:
        return replace(self, mean=torch.zeros_like(self.mean))

    def times(self, x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        found: Tensor = torch.native_batch_norm(
            x, w, b, self.mean, self.variance, False, 0.0, self.eps
        )[0]
        return found

    def pull(
        self, g: Tensor, x: Tensor, w: Tensor | None, wanted: Sequence[bool]
    ) -> Pulled:
        statistics = (self.mean, self.variance, None, None)
        found: Pulled = torch.ops.aten.native_batch_norm_backward(
            g, x, w, *statistics, False, self.eps, list(wanted)
        )
        return found


class BilinearLayers(TorchFunctionMode):
    """While it is entered, convolutions and batch norm have these second derivatives.

    What is out of the ordinary is left to torch: statistics of the batch, padding
    "same", inputs without rows of a batch, autocast, transforms of `torch.func`, tensor
    subclasses, complex numbers and mixed dtypes; also what checkpointing would compute
    again, during a backward pass that this does not reach.
    """

    def __enter__(self) -> Self:
        self._hooks = None if SAVING is None else SAVING(True)
        enter: Any = super().__enter__
        enter()
        return self

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        call = REPLACED.get(func, func)
        if call is not func and not self._reaches():
            call = func
        return call(*args, **(kwargs or {}))

    def _reaches(self) -> bool:
        """Whether nobody has since taken over what is saved for the backward pass."""
        return SAVING is not None and bool(SAVING(True) == self._hooks)


class _Forward(torch.autograd.Function):
    """A(x, w) + b."""

    @staticmethod
    def forward(
        ctx: Any, op: AbstractBilinear, x: Tensor, w: Tensor | None, b: Tensor | None
    ) -> Tensor:
        ctx.op = op
        ctx.given = (True, w is not None, b is not None)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w)
        return op.times(x, w, b)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        (g,) = grads
        wanted = _wanted(ctx, ctx.given)
        if g is None or not any(wanted):
            return None, None, None, None
        apply: Any = _Backward.apply
        return None, *apply(ctx.op, _inner(g), *ctx.saved_tensors, wanted)


class _Backward(torch.autograd.Function):
    """The derivatives of <g, A(x, w) + b> by x, w and b."""

    @staticmethod
    def forward(
        ctx: Any,
        op: AbstractBilinear,
        g: Tensor,
        x: Tensor,
        w: Tensor | None,
        wanted: Sequence[bool],
    ) -> Pulled:
        ctx.op = op
        ctx.given = (True, True, w is not None)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, w)
        return op.pull(g, x, w, wanted)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        h, v, c = grads
        g, x, w = ctx.saved_tensors
        by_g, by_x, by_w = _wanted(ctx, ctx.given)
        along = _along(ctx.op, g, x, w, (h, v, c)) if by_g else None
        pulled = (by_x and v is not None, by_w and h is not None, False)
        found: Sequence[Tensor | None] = (None, None)
        if any(pulled):
            # What stands in for an argument that is missing gives its shape alone.
            h, v = x if h is None else h, w if v is None else v
            found = ctx.op.linear.pull(g, h, v, pulled)
        return None, along, found[0], found[1], None


def _along(
    op: AbstractBilinear, like: Tensor, x: Tensor, w: Tensor | None, tangents: Pulled
) -> Tensor | None:
    """A(h, w) + A(x, v) + c for the tangents h, v and c of x, w and the bias."""
    h, v, c = tangents
    terms = [] if h is None else [op.linear.times(h, w, None)]
    if v is not None:
        terms.append(op.times(x, v, c))
    elif c is not None:
        terms.append(c.view(1, -1, *[1] * (like.dim() - 2)).expand_as(like))
    return sum(terms[1:], terms[0]) if terms else None


def _wanted(ctx: Any, given: Sequence[bool]) -> tuple[bool, ...]:
    """Which derivatives by the tensors that were given are looked for just now."""
    needed = ctx.needs_input_grad[1 : 1 + len(given)]
    nodes = iter(ctx.next_functions)
    places = [next(nodes)[0] if there else None for there in given]
    return tuple(
        bool(need and node is not None and torch._C._will_engine_execute_node(node))
        for need, node in zip(needed, places, strict=True)
    )


def _inner(tensor: Tensor) -> Tensor:
    """The tensor, but not a leaf: torch does not tell whether one is looked for."""
    return tensor.view_as(tensor) if tensor.is_leaf else tensor


def _apply(op: AbstractBilinear, *tensors: Tensor | None) -> Tensor:
    inner = (None if t is None else _inner(t) for t in tensors)
    apply: Any = _Forward.apply
    found: Tensor = apply(op, *inner)
    return found


def _fits(*given: Tensor | None) -> bool:
    """Whether these are ordinary tensors of one dtype, whose derivative is wanted."""
    tensors = [t for t in given if t is not None]
    return (
        all(type(t) in (Tensor, nn.Parameter) for t in tensors)
        and len({t.dtype for t in tensors}) == 1
        and tensors[0].is_floating_point()
        and torch.is_grad_enabled()
        and any(t.requires_grad for t in tensors)
        and not torch.is_autocast_enabled(tensors[0].device.type)
        and not torch._C._are_functorch_transforms_active()
    )


def _convolution(
    call: Callable[..., Tensor], dims: int
) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if padding == "same" or not _batched(input, weight, bias, dims):
            return call(input, weight, bias, stride, padding, dilation, groups)
        padding = 0 if padding == "valid" else padding
        op = Convolution.of(dims, stride, padding, dilation, groups)
        return _apply(op, input, weight, bias)

    return call, convolve


def _transposed(
    call: Callable[..., Tensor], dims: int
) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        settings = (stride, padding, output_padding, groups, dilation)
        if not _batched(input, weight, bias, dims):
            return call(input, weight, bias, *settings)
        op = Convolution.of(dims, stride, padding, dilation, groups, output_padding)
        return _apply(op, input, weight, bias)

    return call, convolve


def _batched(input: Tensor, weight: Tensor, bias: Tensor | None, dims: int) -> bool:
    return _fits(input, weight, bias) and input.dim() == weight.dim() == dims + 2


def _each(number: Any, dims: int) -> list[int]:
    """One number for each dimension."""
    numbers = [number] if isinstance(number, int) else list(number)
    return numbers * dims if len(numbers) == 1 else numbers


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if (
        training
        or running_mean is None
        or running_var is None
        or not _fits(input, weight, bias, running_mean, running_var)
        or running_mean.requires_grad
        or running_var.requires_grad
    ):
        return F.batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
    return _apply(BatchNorm(running_mean, running_var, eps), input, weight, bias)


REPLACED: dict[Any, Callable[..., Tensor]] = {
    **dict(
        _convolution(call, dims)
        for dims, call in enumerate((torch.conv1d, torch.conv2d, torch.conv3d), 1)
    ),
    **dict(
        _transposed(call, dims)
        for dims, call in enumerate(
            (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), 1
        )
    ),
    F.batch_norm: _batch_norm,
}
