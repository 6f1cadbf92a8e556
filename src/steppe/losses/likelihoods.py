"""Likelihoods that losses of torch and named losses stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe.losses.label_smoothing import IGNORED, LabelSmoothing

if TYPE_CHECKING:
    from steppe.losses.batch_losses import BatchLoss


@dataclass(frozen=True)
class Likelihood:
    """Distribution of a target whose -log density is a loss term, up to a constant.

    "logits" and "log_probabilities" of classes, which lie along the dimension that
    `class_dimension` says, "log_odds" of a yes, or "means" of a Gaussian, one for each
    value of a sample; a loss term is the mean over them, weighted where the loss has
    weights (`answer_weights`). Targets that are smoothed or soft have the distribution
    of hard ones.
    """

    outputs: Literal["logits", "log_probabilities", "log_odds", "means"]
    ignored: int | None = None  # the target that is no loss term


def likelihood(loss: str | BatchLoss) -> Likelihood | None:
    """The likelihood that a loss of torch or a named one stands for."""
    if isinstance(loss, nn.Module):
        form = LIKELIHOODS.get(type(loss))
        ignored = getattr(loss, "ignore_index", None)
        return None if form is None else Likelihood(form.outputs, ignored)
    return LIKELIHOODS.get(loss)


def answer_weights(loss: str | BatchLoss, targets: Tensor) -> Tensor | None:
    """Weights that a loss of several yes or no answers gives them, as the targets.

    A sample with `pos_weight` counts as so many where its answer is yes. None where all
    weigh alike.
    """
    weight = getattr(loss, "weight", None)
    yes = getattr(loss, "pos_weight", None)
    if weight is None and yes is None:
        return None
    weights = torch.ones_like(targets)
    if yes is not None:
        weights = 1 + targets * (yes.to(targets) - 1)
    return weights if weight is None else weights * weight.to(targets)


_CLASSES = Likelihood("logits", IGNORED)
_LOG_CLASSES = Likelihood("log_probabilities", IGNORED)
LIKELIHOODS: dict[Any, Likelihood] = {
    "cross_entropy": _CLASSES,
    nn.CrossEntropyLoss: _CLASSES,
    LabelSmoothing: _CLASSES,
    F.cross_entropy: _CLASSES,
    nn.NLLLoss: _LOG_CLASSES,
    F.nll_loss: _LOG_CLASSES,
    nn.BCEWithLogitsLoss: Likelihood("log_odds"),
    F.binary_cross_entropy_with_logits: Likelihood("log_odds"),
    nn.MultiLabelSoftMarginLoss: Likelihood("log_odds"),
    F.multilabel_soft_margin_loss: Likelihood("log_odds"),
    "mse": Likelihood("means"),
    nn.MSELoss: Likelihood("means"),
    F.mse_loss: Likelihood("means"),
}
