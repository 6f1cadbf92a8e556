"""Classification: one of C classes for every sample, learnt by cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from steppe_lab.tasks.abstract import ERROR, TASKS, AbstractTask, Metric, Reduction


@TASKS.add("classification", source="Good, 1952, Rational decisions")
class Classification(AbstractTask):
    """Cross-entropy of logits, judged by the share of samples classified wrongly."""

    loss_name: ClassVar[str] = "cross_entropy"
    headline: ClassVar[Metric] = ERROR

    def loss(self, outputs: Any, targets: Tensor, *, reduction: Reduction) -> Tensor:
        """Cross-entropy of logits (B, C) and classes (B,)."""
        return F.cross_entropy(outputs, targets, reduction=reduction)

    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Whether each sample has the largest logit at another class."""
        return {"error": outputs.argmax(1) != targets}

    def check_outputs(self, outputs: Any, rows: int, classes: int) -> str | None:
        """Outputs must be logits."""
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs)
        if shape == (rows, classes):
            return None
        return (
            f"must give one number per class, shape {(rows, classes)} for {rows} "
            f"inputs, got {shape}"
        )
