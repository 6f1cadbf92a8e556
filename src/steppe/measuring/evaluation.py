"""Batches as the model and the loss see them: outputs, losses, how much is derived.

Shape letters: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from steppe.errors import DataError
from steppe.parameters import unfollowed
from steppe.torch_internals import tree_map

Result = TypeVar("Result")


class Evaluation(NamedTuple):
    """One batch with the outputs of the model and its losses; nothing has a graph."""

    batch: Any  # on the device
    outputs: Any  # of the model's only call; None where the loss calls it otherwise
    losses: Tensor  # loss terms, shape (terms,)
    features: Tensor | None = None  # inputs of the head where it gives the outputs


class WithoutGraph:
    """Computes with as few derivatives as a loss takes itself.

    Args:
        model: that the loss calls.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._way = 0  # the loss takes no derivatives, by inputs (1), or by parameters

    def __call__(self, compute: Callable[[], Result]) -> Result:
        """The result of a function, with a graph only where the loss builds one."""
        ways = (
            torch.no_grad,
            lambda: unfollowed(self._model.parameters()),
            torch.enable_grad,
        )
        while True:
            try:
                with ways[self._way]():
                    return compute()
            except RuntimeError as error:
                if self._way == 2 or "require grad" not in str(error):
                    raise
                self._way += 1


def checked_losses(losses: Any) -> Tensor:
    """Loss terms of a batch, shape (terms,).

    Raises:
        DataError: a loss that returns something else.
    """
    if not isinstance(losses, Tensor) or losses.dim() != 1:
        raise DataError(
            "the loss must return one value per sample, shape (B,), got "
            f"{shape_text(losses)}; take the mean or sum over other dimensions in a "
            "function loss(model, batch), and with reduction='none' none over the "
            "samples."
        )
    if not losses.is_floating_point():
        raise DataError(
            "the loss must return floating numbers that depend on the parameters, "
            f"got {losses.dtype}."
        )
    return losses


def outputs_seen(
    model: nn.Module, compute: Callable[[], Result]
) -> tuple[Result, list[Any]]:
    """A result, and the outputs of the model's calls in it, without graphs.

    Args:
        model: that is called.
        compute: what calls it.
    """
    outputs: list[Any] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        plain = isinstance(output, Tensor)
        outputs.append(output.detach() if plain else tree_map(_detached, output))

    try:
        handle = model.register_forward_hook(note)
    except RuntimeError:  # of TorchScript, which has no hooks
        return compute(), outputs
    try:
        return compute(), outputs
    finally:
        handle.remove()


def head_of(model: nn.Module) -> tuple[str, nn.Linear] | None:
    """The last linear layer, with its name; None where there is none."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    return layers[-1] if layers else None


def evaluated(
    model: nn.Module, batch: Any, losses_of: Callable[[], Tensor]
) -> Evaluation:
    """Outputs and losses of a batch, and the inputs of the last linear layer.

    Args:
        model: that the loss calls.
        batch: on the device.
        losses_of: computes the loss terms.
    """
    seen: list[tuple[Any, Tensor]] = []

    def note(_module: nn.Module, inputs: Any, output: Any) -> None:
        # A copy: the model may write to it, and outputs are then another function.
        seen.append((inputs[0].detach() if inputs else None, output.detach().clone()))

    head = head_of(model)
    handle = None if head is None else head[1].register_forward_hook(note)
    try:
        losses, calls = outputs_seen(model, losses_of)
    finally:
        if handle is not None:
            handle.remove()
    outputs = calls[0] if len(calls) == 1 else None
    features = None
    if len(seen) == 1 and isinstance(outputs, Tensor):
        inputs, output = seen[0]
        features = inputs if torch.equal(output, outputs) else None
    return Evaluation(batch, outputs, losses.detach(), features)


def with_outputs(
    model: nn.Module, batch: Any, losses_of: Callable[[], Tensor]
) -> Evaluation:
    """Outputs and losses of a batch alone; see `evaluated`."""
    losses, calls = outputs_seen(model, losses_of)
    outputs = calls[0] if len(calls) == 1 else None
    return Evaluation(batch, outputs, losses.detach())


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def shape_text(value: Any) -> str:
    """The shape of a tensor, or the type of anything else, as messages name it."""
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    return f"an object of type {type(value).__name__}"
