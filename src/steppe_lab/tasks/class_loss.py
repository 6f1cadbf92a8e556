"""Cross-entropy of classes, with smoothed targets where a task has them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from steppe.losses import LabelSmoothing
from steppe_lab.tasks.abstract import Reduction


def class_loss(
    outputs: Tensor,
    targets: Tensor,
    smoothing: LabelSmoothing | None,
    *,
    reduction: Reduction,
) -> Tensor:
    """Loss of logits (N, C) and classes (N,), of which none is to be left out."""
    if smoothing is None:
        return F.cross_entropy(outputs, targets, reduction=reduction)
    losses: Tensor = smoothing(outputs, targets)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()
