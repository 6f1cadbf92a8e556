"""Classification: one of C classes for every sample, learnt by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe_lab.tasks.abstract import ERROR, TASKS, AbstractTask, Metric, Reduction
from steppe_lab.tasks.class_loss import class_loss
from steppe_lab.tasks.corpus import no_corpus_scores


@TASKS.add("classification", source="Good, 1952, Rational decisions")
class Classification(AbstractTask):
    """Cross-entropy of logits, judged by the share of samples classified wrongly."""

    loss_name: ClassVar[str] = "cross_entropy"
    headline: ClassVar[Metric] = ERROR
    of_classes: ClassVar[bool] = True
    corpus_scores = no_corpus_scores

    def loss(self, outputs: Any, targets: Tensor, *, reduction: Reduction) -> Tensor:
        """Cross-entropy of logits (B, C) and classes (B,)."""
        return class_loss(outputs, targets, self.smoothing, reduction=reduction)

    def terms(self, targets: Tensor) -> Tensor:
        """One for every sample."""
        return torch.ones(len(targets), dtype=torch.int64, device=targets.device)

    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Whether each sample has the largest logit at another class."""
        return {"error": outputs.argmax(1) != targets}

    def check_targets(self, targets: Tensor) -> str | None:
        """Targets must be one class for each sample."""
        if not targets.is_floating_point() and targets.dim() == 1:
            return None
        return (
            f"must be one class for each sample, of torch.int64 and shape (samples,), "
            f"got {targets.dtype} of shape {tuple(targets.shape)}; for numbers give "
            'Dataset(task="regression")'
        )

    def check_outputs(self, outputs: Any, targets: Tensor, size: int) -> str | None:
        """Outputs must be logits."""
        wanted = (len(targets), size)
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs)
        if shape == wanted:
            return None
        return (
            f"must give one number per class, shape {wanted} for {len(targets)} "
            f"inputs, got {shape}"
        )
