"""Second derivatives of layer norm in a few fused passes.

With n the normalised row of x, r the reciprocal of its standard deviation and mean()
over its M entries, y = n w + b and dn = P(dx) for the projection

    P(a) = r (a - mean(a) - n mean(a n)),

which is symmetric. The backward pass gives P(g w), sum(g n) and sum(g) over the rows;
the derivatives of <h, P(g w)> + <v, sum(g n)> + <c, sum(g)> are

    by g: w P(h) + n v + c;    by w: sum of g P(h) over the rows;
    by x: P(g v - r (h mean(g w n) + g w mean(h n))) - r n mean(g w P(h)).

torch finds the same numbers in some twenty passes over the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.curvature.double_backward.engine import (
    Rule,
    applied,
    needed_inputs,
    torch_double_backward,
    transformed,
)


class LayerNorm(torch.autograd.Function):
    """Layer norm over the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, eps: float) -> Tensor:
        y, mean, r = torch.native_layer_norm(x, w.shape, w, b, eps)
        ctx.eps, ctx.present = eps, (True, True, b is not None)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w, mean, r)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        (g,) = grads
        needed = needed_inputs(ctx, ctx.present, 0)
        if g is None or not any(needed):
            return None, None, None, None
        if transformed(g):
            return *_pull(needed, g, *ctx.saved_tensors), None
        arguments = (ctx.eps, needed, g, *ctx.saved_tensors)
        return *applied(LayerNormPull, *arguments), None


class LayerNormPull(torch.autograd.Function):
    """The derivatives of <g, n w + b> by x, w and b."""

    @staticmethod
    def forward(
        ctx: Any,
        eps: float,
        needed: Sequence[bool],
        g: Tensor,
        x: Tensor,
        w: Tensor,
        mean: Tensor,
        r: Tensor,
    ) -> Any:
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, w, mean, r)
        return _pull(needed, g, x, w, mean, r)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        g, x, w, mean, r = ctx.saved_tensors
        h, v, c = grads
        if torch.is_grad_enabled() or any(
            t is not None and transformed(t) for t in grads
        ):
            along, *others = _again(ctx.eps, g, x, w, h, v)
            if c is not None:
                along = c.expand_as(g) if along is None else along + c
            return None, None, along, *others, None, None
        # The first pass is g -> r P(g w), with P the projection off the constant
        # vector and off n; below are its derivatives, each with one projection.
        by_g, by_x, by_w = needed_inputs(ctx, (True, True, True), 2)
        rows = tuple(range(g.dim() - 1))
        n = torch.native_layer_norm(x, w.shape, None, None, ctx.eps)[0]
        along = slope = bent = None
        if h is not None:
            across = _project(h, x, mean, r)
            weighed = g * across
            along = across * w if by_g else None
            slope = weighed.sum(rows) if by_w else None
            if by_x:
                size = len(w)
                of_g = torch.linalg.vecdot(g * w, n).unsqueeze(-1).mul_(r / size)
                of_h = torch.linalg.vecdot(h, n).unsqueeze(-1).mul_(r / size)
                inside = (g * w).mul_(of_h).addcmul_(h, of_g).neg_()
                inside = inside if v is None else inside.addcmul_(g, v)
                share = (weighed @ w).unsqueeze(-1).mul_(r / size)
                bent = _project(inside, x, mean, r).addcmul_(n, share, value=-1)
        elif v is not None and by_x:
            bent = _project(g * v, x, mean, r)
        if by_g and v is not None:
            along = n * v if along is None else along.addcmul_(n, v)
        if by_g and c is not None:
            along = c.expand_as(g) if along is None else along.add_(c)
        return None, None, along, bent, slope, None, None


def _again(
    eps: float, g: Tensor, x: Tensor, w: Tensor, h: Tensor | None, v: Tensor | None
) -> list[Tensor | None]:
    """By g, x and w, as transforms and losses that hold derivatives can follow."""
    follow = torch.is_grad_enabled()
    with torch.enable_grad():
        f = partial(_normalise, eps)
        grads = torch_double_backward(f, (x, w), g, (h, v))
    # A copy without a graph: transforms do not know `detach`.
    return [t if t is None or follow else t.clone() for t in grads]


def _normalise(eps: float, x: Tensor, w: Tensor) -> Tensor:
    return F.layer_norm(x, w.shape, w, None, eps)


def _pull(
    needed: Sequence[bool], g: Tensor, x: Tensor, w: Tensor, mean: Tensor, r: Tensor
) -> Any:
    # The values of the bias do not matter.
    return torch.ops.aten.native_layer_norm_backward(
        g, x, w.shape, mean, r, w, w, list(needed)
    )


def _project(a: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    """P(a)."""
    projected: Tensor = torch.ops.aten.native_layer_norm_backward(
        a, x, x.shape[-1:], mean, r, None, None, [True, False, False]
    )[0]
    return projected


def _rule(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor | None:
    if not isinstance(normalized_shape, list | tuple) or not isinstance(eps, float):
        return None
    one = tuple(normalized_shape) == tuple(input.shape[-1:])
    if weight is None or not one or weight.shape != input.shape[-1:] or input.dim() < 2:
        return None
    if bias is not None and bias.shape != weight.shape:
        return None
    output: Tensor = applied(LayerNorm, input, weight, bias, eps)
    return output


RULES: dict[Any, Rule] = {F.layer_norm: _rule}
