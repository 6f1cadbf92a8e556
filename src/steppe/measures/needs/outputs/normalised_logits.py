"""The objective under a loss that the scale of the outputs does not change."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from steppe.errors import UsageError
from steppe.losses import IGNORED, LogitNormalised
from steppe.objective import Objective


def with_normalised_logits(objective: Objective) -> Objective:
    """The objective under the cross-entropy of normalised logits.

    Raises:
        UsageError: its loss is no plain cross-entropy of logits.
    """
    loss: Any = objective.loss
    if isinstance(loss, LogitNormalised):
        return objective
    plain = isinstance(loss, nn.CrossEntropyLoss) and not loss.label_smoothing
    if not (plain or loss is F.cross_entropy or loss == "cross_entropy"):
        raise UsageError(
            "logit_normalised=True needs the cross-entropy of logits, got the loss "
            f"'{objective.loss_name}'; give the objective loss='cross_entropy', or "
            "leave logit_normalised out."
        )
    ignored = loss.ignore_index if plain else IGNORED
    other = Objective(
        objective.model,
        list(objective.batches),
        LogitNormalised(ignored),
        mode=objective.mode,
        seed=objective.seed,
        penalty=objective.penalty,
        about=objective.about,
    )
    other.numbers = objective.numbers
    return other
