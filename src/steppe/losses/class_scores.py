"""Scores of classes in the outputs of a classifier, and the true classes.

Shape letters: B loss terms of a batch, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.losses.batch_losses import class_dimension
from steppe.losses.likelihoods import Likelihood


def scores_and_classes(
    scores: Any, batch: Any, likelihood: Likelihood | None, loss_name: str
) -> tuple[Tensor, Tensor]:
    """Scores of all classes and the class, for each loss term: (B, C) and (B,).

    Args:
        scores: outputs of the network.
        batch: inputs and targets. Where targets are probabilities, the class is the
            most probable one.
        likelihood: of the loss; None where it is not known. Targets that it ignores are
            left out.
        loss_name: for the message.

    Raises:
        UsageError: outputs that are no scores of at least two classes.
    """
    pair = isinstance(batch, tuple | list) and len(batch) == 2
    targets = batch[1] if pair else None
    if not isinstance(scores, Tensor) or not isinstance(targets, Tensor):
        raise UsageError(_NO_CLASSES.format("batches or outputs of another form"))
    given = f"outputs {tuple(scores.shape)} and targets {tuple(targets.shape)}"
    kind = None if likelihood is None else likelihood.outputs
    if kind not in (None, "logits", "log_probabilities"):
        raise UsageError(_NO_CLASSES.format(f"those of the loss {loss_name}"))
    if scores.dim() > 1 and targets.shape == scores.shape:
        if likelihood is None or not targets.is_floating_point():
            raise UsageError(_NO_CLASSES.format(given))
        return _rows(scores, 1), targets.argmax(1).flatten()
    classes = class_dimension(scores.shape, targets.shape)
    one_each = scores.dim() > 1 and scores.shape[classes] > 1
    fit = scores.shape[:classes] + scores.shape[classes + 1 :] == targets.shape
    if not one_each or not fit or targets.dtype != torch.int64:
        raise UsageError(_NO_CLASSES.format(given))
    rows, labels = _rows(scores, classes), targets.flatten()
    if likelihood is None or likelihood.ignored is None:
        return rows, labels
    kept = labels != likelihood.ignored
    return (rows, labels) if kept.all() else (rows[kept], labels[kept])


def _rows(scores: Tensor, classes: int) -> Tensor:
    """Scores with classes along a dimension as one row for each loss term."""
    return scores.movedim(classes, -1).flatten(0, -2)


_NO_CLASSES = (
    "an accuracy, an error rate or a margin needs scores of at least two classes and "
    "one class for each of them, got {}; measure a classifier on batches (inputs, "
    "targets)."
)
