"""What a loss setting means: a loss of batches, and the likelihood it stands for.

Shape letters: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import DataError, SettingError

BatchLoss = Callable[[nn.Module, Any], Tensor]

IGNORED = -100  # the target that torch's functions leave out by default


@dataclass(frozen=True)
class Likelihood:
    """Distribution of a target whose -log density is a loss term, up to a constant.

    "logits" and "log_probabilities" of classes, which lie along dimension 1, "log_odds"
    of a yes, or "means" of a Gaussian, one for each value of a row. Targets that are
    smoothed or soft have the distribution of hard ones.
    """

    outputs: Literal["logits", "log_probabilities", "log_odds", "means"]
    ignored: int | None = None  # the target that is no loss term


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, averaged over the outputs of each sample."""
    if outputs.shape != targets.shape:
        raise DataError(
            "the loss 'mse' needs targets of the shape of the outputs "
            f"{tuple(outputs.shape)}, got {tuple(targets.shape)}; reshape the targets."
        )
    squared = (outputs - targets).square()
    return squared if squared.dim() < 2 else squared.flatten(1).mean(1)


def named_loss(loss: str | BatchLoss) -> tuple[str, BatchLoss]:
    """Name of a loss, and what gives the loss terms of a model on a batch.

    Raises:
        SettingError: an unknown name, or a loss that averages or weighs its terms.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise SettingError(
                f"loss must be one of {', '.join(LOSSES)} or a callable, got {loss!r}."
            )
        return loss, LOSSES[loss]
    if isinstance(loss, nn.Module):
        kind = type(loss).__name__
        if getattr(loss, "reduction", "none") != "none":
            raise SettingError(
                f"{kind} averages over the batch; make it with reduction='none'."
            )
        if (
            isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
            and loss.weight is not None
        ):
            raise SettingError(
                f"{kind} has class weights, but all loss terms weigh alike here; give "
                "a callable of (model, batch) that weighs its terms."
            )
        return kind, _on_pairs(loss, getattr(loss, "ignore_index", None))
    name = getattr(loss, "__name__", type(loss).__name__)
    if getattr(loss, "__module__", "") == F.__name__:
        functional: Callable[..., Tensor] = loss
        ignored = IGNORED if functional in (F.cross_entropy, F.nll_loss) else None
        return name, _on_pairs(partial(functional, reduction="none"), ignored)
    return name, _on_batches(loss)


def likelihood(loss: str | BatchLoss) -> Likelihood | None:
    """The likelihood that a loss of torch or a named one stands for."""
    if isinstance(loss, nn.Module):
        weighed = ("weight", "pos_weight")
        if any(getattr(loss, name, None) is not None for name in weighed):
            return None
        found = LIKELIHOODS.get(type(loss))
        ignored = getattr(loss, "ignore_index", None)
        return None if found is None else Likelihood(found.outputs, ignored)
    return LIKELIHOODS.get(loss)


def _on_pairs(
    loss: Callable[[Tensor, Tensor], Tensor], ignored: int | None = None
) -> BatchLoss:
    def batch_loss(model: nn.Module, batch: Any) -> Tensor:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(
                "batches must be pairs (inputs, targets) for this loss, got "
                f"{type(batch).__name__}; give a tuple (X, y) and not a list [X, y], "
                "or a loss callable of (model, batch)."
            )
        inputs, targets = batch
        losses = loss(model(inputs), targets)
        return losses if ignored is None else _kept(losses, targets, ignored)

    return batch_loss


def _kept(losses: Tensor, targets: Tensor, ignored: int) -> Tensor:
    if targets.dtype.is_floating_point:  # class probabilities
        return losses.flatten()
    kept = targets != ignored
    # A compiler needs to know shapes; it may have the zeros of ignored targets, as
    # what is compiled is summed over the terms.
    if torch.compiler.is_compiling():
        return losses.flatten()
    return losses.flatten() if kept.all() else losses[kept]


def _on_batches(loss: BatchLoss) -> BatchLoss:
    def batch_loss(model: nn.Module, batch: Any) -> Tensor:
        try:
            return loss(model, batch)
        except (AttributeError, TypeError) as error:
            said = str(error).partition("\n")[0]
            # A model that is taken for its outputs is named in torch's message.
            if type(model).__name__ not in said:
                raise
            raise DataError(
                f"the loss failed with '{said}', as it is called with (model, batch); "
                "run the model inside it, or give a torch loss with reduction='none'."
            ) from error

    return batch_loss


LOSSES: dict[str, BatchLoss] = {
    "cross_entropy": _on_pairs(partial(F.cross_entropy, reduction="none"), IGNORED),
    "mse": _on_pairs(mse),
}
_CLASSES = Likelihood("logits", IGNORED)
_LOG_CLASSES = Likelihood("log_probabilities", IGNORED)
LIKELIHOODS: dict[Any, Likelihood] = {
    "cross_entropy": _CLASSES,
    nn.CrossEntropyLoss: _CLASSES,
    F.cross_entropy: _CLASSES,
    nn.NLLLoss: _LOG_CLASSES,
    F.nll_loss: _LOG_CLASSES,
    nn.BCEWithLogitsLoss: Likelihood("log_odds"),
    F.binary_cross_entropy_with_logits: Likelihood("log_odds"),
    "mse": Likelihood("means"),
    nn.MSELoss: Likelihood("means"),
    F.mse_loss: Likelihood("means"),
}
