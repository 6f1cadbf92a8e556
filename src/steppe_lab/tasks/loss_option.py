"""Losses by text: a name, or a function of the user.

A function has the contract of `steppe.Objective`: it gives one loss for each sample,
shape (B,).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import SettingError
from steppe.losses import LOSSES, BatchLoss, LabelSmoothing
from steppe.registry.registry import Registry, is_code
from steppe.registry.specs import Spec

LOSS = (
    "a loss is a function loss(outputs, targets), or loss(model, batch) where its "
    "first argument is called model, and gives one loss for each sample, shape (B,)"
)
NEXT_TOKEN = "next_token"
PUBLISHED = ("smooth_crossentropy", "softmax_mse")  # of landscape programs
NAMES = (*LOSSES, NEXT_TOKEN, *PUBLISHED)
FUNCTIONAL = "torch.nn.functional"
_CODE: Registry[Spec] = Registry("loss", Spec)


def read_loss(text: str | None) -> str | BatchLoss | None:
    """A loss as `steppe.Objective` takes it; None where nothing is said.

    Args:
        text: cross_entropy, mse, next_token; smooth_crossentropy for a smoothing of
            0.1 that is spread over the other classes (Szegedy et al., 2016,
            arXiv:1512.00567, with C - 1 for C); softmax_mse for squared errors of the
            probabilities; or module:function, with settings as
            module:function:name=value.

    Raises:
        SettingError: no such name, or something that cannot be called so.
        UnknownNameError: code that cannot be imported.
    """
    if text == "smooth_crossentropy":
        return LabelSmoothing(0.1, form="others")
    if text == "softmax_mse":
        return OwnLoss(_softmax_mse, text, takes_model=False)
    if text is None or text in NAMES:
        return text
    if not is_code(text):
        raise SettingError(
            f"--loss takes {', '.join(NAMES)} or module:function, got '{text}'."
        )
    choice = _CODE.parse(text)
    made: Any = _CODE[choice.name].make
    if isinstance(made, type):
        raise SettingError(
            f"--loss {choice.name} is a class; name a function, such as "
            f"{FUNCTIONAL}:cross_entropy, or one of yours; {LOSS}."
        )
    if isinstance(made, nn.Module) or made.__module__ == FUNCTIONAL:
        known: BatchLoss = made  # with its likelihood
        return known
    called = functools.partial(made, **choice.settings)
    first, *others = _places(made, choice.name)
    if len(others) != 1:
        raise SettingError(
            f"--loss {choice.name} takes {1 + len(others)} arguments; {LOSS}."
        )
    return OwnLoss(called, made.__name__, takes_model=first == "model")


class OwnLoss:
    """A function of the user as a loss of (model, batch).

    Args:
        function: of the model and a batch, or of outputs and targets.
        name: of the function.
        takes_model: the former.
    """

    def __init__(
        self, function: Callable[[Any, Any], Tensor], name: str, *, takes_model: bool
    ) -> None:
        self.function = function
        self.takes_model = takes_model
        self.__name__ = name

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Losses of a batch, shape (B,)."""
        if self.takes_model:
            return self.function(model, batch)
        inputs, targets = batch
        return self.function(model(inputs), targets)


def _softmax_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of squared errors of the probabilities, shape (B,)."""
    wanted = F.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
    return (outputs.softmax(-1) - wanted).square().mean(-1)


def _places(function: Callable[..., Any], name: str) -> list[str]:
    """Names of the arguments that must be given by place, one at least."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ["outputs", "targets"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds and p.default is p.empty]
    if not names:
        raise SettingError(f"--loss {name} takes no argument; {LOSS}.")
    return names
