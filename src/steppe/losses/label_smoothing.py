"""Cross-entropy with smoothed targets, in both forms that are published.

Sources: Szegedy et al., 2016, arXiv:1512.00567, section 7, spread the smoothing over
all classes, as torch does; David Samuel's code of SAM, which the code of GSAM (Zhuang
et al., 2022, arXiv:2203.08065) has it from, over the other classes.

Shape letters: B batch, C classes.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import DataError, SettingError, check_choice
from steppe.registry.bounds import Range, Ranges, check_bounds

IGNORED = -100  # the target that torch's functions leave out by default
SmoothingForm = Literal["others", "all"]


class LabelSmoothing(nn.Module):
    """Loss of logits for smoothed classes, one for each target.

    With "others" the target has `1 - smoothing` at its class and `smoothing / (C - 1)`
    at each other one, and the loss is the Kullback-Leibler divergence from it, whose
    minimum is 0. With "all" it is torch's: `smoothing / C` is added to every class, and
    the loss is the cross-entropy, whose minimum is the entropy of the target. A
    smoothing s of "others" has the gradients of `s C / (C - 1)` of "all".

    Args:
        smoothing: share that is taken from the class, in [0, 1).
        form: classes that it is spread over.

    Raises:
        SettingError: a setting out of its range, or with "others" a smoothing above
            `(C - 1) / C`, which makes the class the least likely one.
        DataError: targets that are no classes.

    Example:
        >>> import torch
        >>> loss = LabelSmoothing(0.1, form="others")
        >>> best = torch.tensor([[0.9, 0.05, 0.05]]).log()
        >>> round(abs(float(loss(best, torch.tensor([0])))), 6)
        0.0
    """

    bounds: ClassVar[Ranges] = {"smoothing": Range(0.0, 1.0, below=True)}
    ignore_index: ClassVar[int] = IGNORED

    def __init__(self, smoothing: float, *, form: SmoothingForm) -> None:
        check_bounds({"smoothing": smoothing}, self.bounds)
        check_choice("form", form, ("others", "all"))
        super().__init__()
        self.smoothing = smoothing
        self.form: SmoothingForm = form

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses shaped like the targets; those of -100 are 0.

        Args:
            outputs: logits, shape (B, C, ...).
            targets: classes, shape (B, ...).
        """
        if targets.is_floating_point():
            raise DataError(
                "label smoothing needs one class for each target, got probabilities; "
                "smooth them in the data and take cross_entropy."
            )
        spread, least = self.smoothing, 0.0
        if self.form == "others":
            spread, least = self._over_all(outputs.shape[1])
        losses = F.cross_entropy(
            outputs, targets, reduction="none", label_smoothing=spread
        )
        # The divergence is the cross-entropy less the entropy of the target.
        return losses - least * (targets != IGNORED).to(losses) if least else losses

    def _over_all(self, classes: int) -> tuple[float, float]:
        """Smoothing over all classes with the same targets, and their entropy."""
        s, others = self.smoothing, classes - 1
        if s * classes > others:
            raise SettingError(
                f"label smoothing must be at most 1 - 1 / classes for the form "
                f"'others', got {s:g} with {classes} classes; lower it."
            )
        if not s:
            return 0.0, 0.0
        entropy = -(1 - s) * math.log(1 - s) - s * math.log(s / others)
        return s * classes / others, entropy

    def extra_repr(self) -> str:
        """Settings, as torch prints them."""
        return f"{self.smoothing:g}, form={self.form!r}"
