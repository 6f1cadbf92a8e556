"""Derivatives that can be differentiated again, or one sentence why they cannot.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steppe.curvature.double_backward.engine import user_function
from steppe.errors import UsageError


def differentiate(
    outputs: Sequence[Tensor],
    params: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    keep: Literal["nothing", "graph", "retain"] = "nothing",
) -> list[Tensor]:
    """`torch.autograd.grad` of P parameters, zeros where a parameter has no influence.

    Args:
        outputs: what is differentiated.
        params: by what.
        weights: of the outputs, each shaped like its output.
        keep: "retain" lets the outputs be differentiated again, "graph" also what is
            returned.

    Raises:
        UsageError: an operation without a second derivative, or a compiled model.
    """
    try:
        return list(
            torch.autograd.grad(
                outputs,
                params,
                weights,
                create_graph=keep == "graph",
                retain_graph=keep != "nothing",
                materialize_grads=True,
            )
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        said = str(error).partition("\n")[0].rstrip(".")
        if "torch.compile" in said:
            raise UsageError(
                "second derivatives need a model that is not compiled: torch says "
                f"'{said}'; give the objective the model as it was before "
                "torch.compile."
            ) from error
        raise _not_twice(said) from error


def check_differentiable(tensors: Sequence[Tensor]) -> None:
    """Find backwards that cannot be differentiated, which torch itself passes over.

    A function marked `once_differentiable` raises only where the search for the
    parameters leads through it, and it never does: the product would be wrong.

    Args:
        tensors: derivatives, and what they are derivatives of, which has the names.

    Raises:
        UsageError: there is one; its name.
    """
    seen = _graph(tensors)
    if any(node.name() == "torch::autograd::Error" for node in seen):
        names = sorted({_marked(node) for node in seen} - {""})
        functions = ", ".join(names) or "a function"
        raise _not_twice(f"{functions} is marked with @once_differentiable")


def custom_functions(tensors: Sequence[Tensor]) -> list[str]:
    """Names of functions in a graph whose backward pass is neither torch's nor ours."""
    classes = (user_function(n) for n in _graph(tensors))
    known = ("torch.", "steppe.")
    return sorted(
        {c.__name__ for c in classes if c and not c.__module__.startswith(known)}
    )


def _graph(tensors: Sequence[Tensor]) -> set[Any]:
    todo = [t.grad_fn for t in tensors if t.grad_fn is not None]
    seen: set[Any] = set(todo)
    while todo:
        fresh = {n for n, _ in todo.pop().next_functions if n is not None} - seen
        seen |= fresh
        todo.extend(fresh)
    return seen


def _marked(node: Any) -> str:
    """Name of the function of a node that is marked so, or nothing."""
    function = user_function(node)
    backward = getattr(function, "backward", None)
    # The mark is a wrapper that torch defines, around a method that it does not.
    home = getattr(backward, "__globals__", {}).get("__name__")
    return function.__name__ if function and home == "torch.autograd.function" else ""


def check_dense(model: nn.Module) -> None:
    """Refuse layers with sparse gradients.

    Raises:
        UsageError: there is one; its name.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag):
            continue
        if module.sparse and module.weight.requires_grad:
            raise UsageError(
                "second derivatives need dense gradients, those of the layer "
                f"'{name}' are sparse; make that {type(module).__name__} with "
                "sparse=False."
            )


def _not_twice(said: str) -> UsageError:
    return UsageError(
        f"the loss cannot be differentiated twice: torch says '{said}'; replace that "
        "operation by one with a double backward, use backend='finite_difference', or "
        "a measure without second derivatives, such as lpf."
    )
