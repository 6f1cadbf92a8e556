"""Second derivatives of activations by numbers that are computed once.

For y = f(x) entry by entry, with the gradient g in y, products of the Hessian with any
vector need f'(x) and g f''(x) alone. torch finds them anew for every vector, from x:
for GELU in about 25 passes over the tensor, where multiplying by what is kept takes 3.
The price is two more kept tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isfunction, signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from steppe.curvature.double_backward.engine import (
    Rule,
    applied,
    identity,
    needed_inputs,
    torch_double_backward,
    transformed,
)

Activation = Callable[[Tensor], Tensor]


class Elementwise(torch.autograd.Function):
    """f(x)."""

    @staticmethod
    def forward(ctx: Any, f: Activation, x: Tensor) -> Tensor:
        ctx.f = f
        with _apart(x) as leaf:
            slope = _slope(f, leaf, create_graph=False)
        ctx.save_for_backward(x, slope)
        return f(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,), (x, slope) = grads, ctx.saved_tensors
        if not torch.is_grad_enabled():
            return None, g * slope
        if transformed(g):
            return None, g * _slope(ctx.f, x.view_as(x))
        return None, applied(ElementwisePull, ctx.f, g, x, slope)


class ElementwisePull(torch.autograd.Function):
    """g f'(x)."""

    @staticmethod
    def forward(ctx: Any, f: Activation, g: Tensor, x: Tensor, slope: Tensor) -> Tensor:
        ctx.f = f
        with _apart(x) as leaf:
            (curve,) = torch.autograd.grad(_slope(f, leaf).sum(), leaf)
        ctx.save_for_backward(g, x, slope, curve.mul_(g))
        return g * slope

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (h,), (g, x, slope, bend) = grads, ctx.saved_tensors
        if torch.is_grad_enabled():  # for a loss that holds derivatives itself
            return None, *torch_double_backward(ctx.f, (x,), g, (h,)), None
        by_g, by_x = needed_inputs(ctx, (True, True), 1)
        return None, h * slope if by_g else None, h * bend if by_x else None, None


def _slope(f: Activation, x: Tensor, *, create_graph: bool = True) -> Tensor:
    (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=create_graph)
    return slope


@contextmanager
def _apart(x: Tensor) -> Iterator[Tensor]:
    """A leaf for a graph that is gone at once, and does not count as kept."""
    with torch.enable_grad(), saved_tensors_hooks(identity, identity):
        yield x.detach().requires_grad_()


def _rule(activation: Callable[..., Tensor]) -> Rule:
    takes = signature(activation) if isfunction(activation) else None

    def apply(input: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
        bound = None if takes is None else takes.bind(input, *args, **kwargs)
        if bound is not None and bound.arguments.get("inplace"):
            return None

        def f(x: Tensor) -> Tensor:
            return activation(x, *args, **kwargs)

        output: Tensor = applied(Elementwise, f, input)
        return output

    return apply


RULES: dict[Any, Rule] = {
    activation: _rule(activation)
    for activation in (F.gelu, F.silu, F.mish, F.softplus, F.elu, F.selu, F.celu)
}
