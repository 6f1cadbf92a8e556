"""Scores that attacks can go by: one for each class, the same in every call.

An attack looks for a change of each row by itself, over many calls. Where scores draw
random numbers, or depend on the other rows of a call, some call is wrong without any
change, and the network looks less robust than it is.

Shape letters: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steppe.errors import SteppeError, UsageError
from steppe.measuring.model_state import apart
from steppe.registry.registry import one_line
from steppe_lab.attacks.victim import cross_entropy

Scores = Callable[[Tensor], Tensor]


def sound(scores: Scores) -> Scores:
    """The same scores, without NaN.

    They raise UsageError in the place of errors of the network's own code, and for
    NaN, which is larger than no score and smaller than none.
    """

    def checked(inputs: Tensor) -> Tensor:
        try:
            given = scores(inputs)
        except (SteppeError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise UsageError(
                f"the model failed on inputs of shape {tuple(inputs.shape)} "
                f"({inputs.dtype}) with '{one_line(error)}'; give data of the shape "
                "and dtype that it takes."
            ) from error
        if bool(given.isnan().any()):
            rows = int(given.isnan().flatten(1).any(1).sum()) if given.dim() else 1
            raise UsageError(
                f"the scores of the network must be numbers for all inputs within the "
                f"bounds, got NaN for {rows} of {len(inputs)} of one call; use weights "
                "of higher precision, or a network that is defined there."
            )
        return given

    return checked


def check_sound(scores: Scores, inputs: Tensor) -> None:
    """Refuse scores that attacks cannot go by.

    Args:
        scores: of inputs (B, ...).
        inputs: a few of them.

    Raises:
        UsageError: no score for each class, or scores that are random or depend on the
            other rows.
    """
    with torch.no_grad():
        first = scores(inputs)
        if first.dim() != 2 or len(first) != len(inputs) or first.shape[1] < 2:
            raise UsageError(
                f"attacks need a score for each of 2 classes or more, of shape (B, C), "
                f"got {tuple(first.shape)} for {len(inputs)} inputs; of one score z, "
                "shape (B,), for yes or no let the network give two, "
                "torch.stack([-z, z], 1) / 2."
            )
        if apart(first, scores(inputs), first.dtype):
            raise UsageError(
                "scores of the same inputs differ from call to call in evaluation "
                "mode, and attacks would take that for success; let dropout and noise "
                "of the network follow its mode, as nn.Dropout does."
            )
        half = (len(inputs) + 1) // 2
        if apart(first[:half], scores(inputs[:half]), first.dtype):
            raise UsageError(
                "scores of a sample depend on the others of its batch in evaluation "
                "mode, and attacks change each sample alone; let batch norm of the "
                "network follow its mode, with running statistics."
            )


def is_flat(scores: Scores, inputs: Tensor) -> bool:
    """Whether the loss has a gradient by the inputs, and it is zero for all of them.

    It is where a network rounds its inputs, and where all losses are exactly zero.

    Args:
        scores: of inputs (B, ...).
        inputs: a few of them.
    """
    with torch.enable_grad():
        at = inputs.detach().requires_grad_()
        given = scores(at)
        if not given.requires_grad:  # attacks that follow it say so
            return False
        loss = cross_entropy(given, given.argmax(1)).sum()
        (gradient,) = torch.autograd.grad(loss, at, materialize_grads=True)
    return not bool(gradient.any())
