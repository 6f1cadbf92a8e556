"""Second derivatives of activations by numbers that are computed once.

For y = f(x) entry by entry, a product of the Hessian with a vector needs f'(x) and
f''(x). torch finds them anew for every vector, from x: for GELU in about 25 passes over
the tensor, where multiplying what is kept takes 4. The price is two more kept tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.curvature.passes import twice

Activation = Callable[[Tensor], Tensor]


class Elementwise(torch.autograd.Function):
    """f(x), whose derivative is the slope that is given."""

    @staticmethod
    def forward(ctx: Any, f: Activation, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return f(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,), (slope,) = grads, ctx.saved_tensors
        return None, g * slope, None


class ElementwiseSlope(torch.autograd.Function):
    """f'(x), whose derivative is f''(x)."""

    @staticmethod
    def forward(ctx: Any, f: Activation, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            slope = _slope(f, leaf)
            (curve,) = torch.autograd.grad(slope.sum(), leaf)
        ctx.f = f
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, curve)
        return slope.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        (h,), (x, curve) = grads, ctx.saved_tensors
        if h is None:
            return None, None
        if torch.is_grad_enabled():  # for a loss that holds derivatives itself
            return None, twice(ctx.f, (x,), torch.ones_like(x), (h,))[1]
        return None, h * curve


def _slope(f: Activation, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    return slope


def _rule(activation: Callable[..., Tensor]) -> Callable[..., Tensor | None]:
    def apply(input: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
        if any(given is True for given in (*args, *kwargs.values())):  # in place
            return None

        def f(x: Tensor) -> Tensor:
            return activation(x, *args, **kwargs)

        value: Any = Elementwise.apply
        slope: Any = ElementwiseSlope.apply
        found: Tensor = value(f, input, slope(f, input))
        return found

    return apply


RULES: dict[Any, Callable[..., Tensor | None]] = {
    activation: _rule(activation)
    for activation in (F.gelu, F.silu, F.mish, F.softplus, F.elu, F.selu, F.celu)
}
