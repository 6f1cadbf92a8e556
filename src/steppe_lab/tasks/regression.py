"""Regression: numbers for every sample, learnt by the mean squared error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe_lab.tasks.abstract import TASKS, AbstractTask, Metric, Reduction
from steppe_lab.tasks.corpus import no_corpus_scores


@TASKS.add("regression", source="Gauss, 1809, Theoria motus corporum coelestium")
class Regression(AbstractTask):
    """Squared error of K numbers, judged by the mean absolute error.

    Both are means over the K numbers of a sample, then over the samples.
    """

    loss_name: ClassVar[str] = "mse"
    headline: ClassVar[Metric] = Metric(
        name="mae", title="mean absolute error", units="units of the targets"
    )
    corpus_scores = no_corpus_scores

    def loss(self, outputs: Any, targets: Tensor, *, reduction: Reduction) -> Tensor:
        """Squared error of outputs (B, K) and targets (B, K)."""
        each = F.mse_loss(outputs, targets, reduction="none").flatten(1).mean(1)
        if reduction == "none":
            return each
        return each.mean() if reduction == "mean" else each.sum()

    def terms(self, targets: Tensor) -> Tensor:
        """One for every sample."""
        return torch.ones(len(targets), dtype=torch.int64, device=targets.device)

    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Absolute error of each sample."""
        return {"mae": (outputs - targets).abs().flatten(1).mean(1)}

    def check_targets(self, targets: Tensor) -> str | None:
        """Targets must be numbers in float32, in a row for every sample."""
        if targets.is_floating_point() and targets.dim() > 1:
            return None
        return (
            f"must be floating numbers of shape (samples, values), got {targets.dtype} "
            f"of shape {tuple(targets.shape)}; convert them with "
            "targets.float().reshape(len(targets), -1)"
        )

    def check_outputs(self, outputs: Any, targets: Tensor, size: int) -> str | None:
        """Outputs must be numbers of the shape of the targets."""
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs)
        if shape == tuple(targets.shape):
            return None
        return (
            f"must give one number per value of the target, shape "
            f"{tuple(targets.shape)} for {len(targets)} inputs, got {shape}"
        )
