"""The autograd engine: the context of a call, and the derivatives that are needed.

Torch calls these names private; of `double_backward` this file alone uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

from steppe.torch_internals import transforms_active

Rule = Callable[..., Tensor | None]  # as torch's function; None leaves a call to it

WEIGHT_NORM: Callable[..., Tensor] = torch._weight_norm
# Tells the innermost hooks on saved tensors; from torch 2.8 on.
_HOOKS: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
SEES_HOOKS = _HOOKS is not None


def saved_tensor_hooks() -> Any:
    """Innermost hooks on saved tensors; None where there are none, or torch is old."""
    return _HOOKS(True) if SEES_HOOKS else None


def no_other_mode(own: type) -> bool:
    """Whether no mode sees calls of functions but those of a class, and `torch.device`.

    Args:
        own: a class of modes.
    """
    modes: Any = torch.overrides._get_current_function_mode_stack
    return all(isinstance(mode, DeviceContext | own) for mode in modes())


def forward_derivatives_active() -> bool:
    """Whether a level of forward-mode derivatives is entered."""
    return torch.autograd.forward_ad._current_level >= 0


def needed_inputs(ctx: Any, present: Sequence[bool], first: int) -> tuple[bool, ...]:
    """Whether the running backward pass needs derivatives by each of some arguments.

    Args:
        ctx: of the function's backward pass.
        present: for some arguments in a row, whether they are tensors and not None.
        first: place of the first of them; no tensor comes before it.
    """
    # `needs_input_grad` says which inputs require a gradient at all; a backward pass
    # by some of them asks the engine for fewer.
    needed = ctx.needs_input_grad[first : first + len(present)]
    nodes = iter(ctx.next_functions)
    places = [next(nodes)[0] if there else None for there in present]
    return tuple(
        bool(need and node is not None and torch._C._will_engine_execute_node(node))
        for need, node in zip(needed, places, strict=True)
    )


def user_function(node: Any) -> type[torch.autograd.Function] | None:
    """The `torch.autograd.Function` that a node of the graph applies; None for torch's.

    Args:
        node: of an autograd graph.
    """
    return getattr(type(node), "_forward_cls", None)


def inner(tensor: Tensor) -> Tensor:
    """A view of a leaf, other tensors themselves: of leaves the engine says nothing."""
    return tensor.view_as(tensor) if tensor.is_leaf else tensor


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """Apply a function, its tensors linked so that `needed_inputs` can tell."""
    apply: Any = function.apply
    return apply(*(inner(t) if isinstance(t, Tensor) else t for t in arguments))


def identity(tensor: Tensor) -> Tensor:
    """The tensor: a hook that changes nothing."""
    return tensor


def transformed(tensor: Tensor) -> bool:
    """Whether transforms of functions are at work, which know torch's own alone."""
    return transforms_active() or bool(
        torch._C._functorch.is_legacy_batchedtensor(tensor)
    )


def torch_double_backward(
    f: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    g: Tensor,
    tangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Second derivatives by torch's own, which can be differentiated again.

    Args:
        f: a function of `inputs`.
        inputs: the tensors to differentiate by.
        g: gradient in the value of f.
        tangents: of the gradients in `inputs`; None for zeros.

    Returns:
        Derivatives of the sum of <tangent, gradient in inputs>, by g and by `inputs`.
    """
    g, *linked = (t.view_as(t) for t in (g, *inputs))
    there = [t for t in linked if t.requires_grad]
    first = iter(torch.autograd.grad(f(*linked), there, g, create_graph=True))
    grads = [next(first) if t.requires_grad else None for t in linked]
    pairs = [
        (grad, tangent)
        for grad, tangent in zip(grads, tangents, strict=True)
        if grad is not None and grad.requires_grad and tangent is not None
    ]
    if not pairs:
        return [None] * (1 + len(inputs))
    second = iter(
        torch.autograd.grad(
            [grad for grad, _ in pairs],
            [t for t in (g, *linked) if t.requires_grad],
            [tangent for _, tangent in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(second) if t.requires_grad else None for t in (g, *linked)]
