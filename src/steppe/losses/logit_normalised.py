"""Cross-entropy of normalised logits, which the scale of the outputs does not change.

Source: Andriushchenko et al., 2023, arXiv:2302.07011, section 3, who measure sharpness
with it; the normalisation is that of their published code.

Shape letters: B batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import DataError, check_integer
from steppe.losses.label_smoothing import IGNORED

LEAST_NORM = 1e-10  # of centred logits: equal logits stay zeros


class LogitNormalised(nn.Module):
    """Cross-entropy of logits that are centred and divided by their L2 norm.

    The logits f become (f - mean f) / max(||f - mean f||, 1e-10) before the softmax, so
    that a factor of the last layer changes neither the loss nor its sharpness. Without
    a factor between them, the classes have probabilities that differ little: compare
    such losses with each other alone.

    Args:
        ignore_index: the target that is no loss term.

    Raises:
        SettingError: an `ignore_index` that is no whole number.
        DataError: outputs without a dimension of classes.

    Example:
        >>> logits, targets = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
        >>> loss = LogitNormalised()
        >>> bool(torch.isclose(loss(logits, targets), loss(8 * logits, targets)))
        True
    """

    def __init__(self, ignore_index: int = IGNORED) -> None:
        check_integer("ignore_index", ignore_index)
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses shaped like the targets; those of ignored ones are 0.

        Args:
            outputs: logits, shape (B, C, ...).
            targets: classes, shape (B, ...), or probabilities, shaped as the outputs.
        """
        if outputs.dim() < 2:
            raise DataError(
                "logits must have their classes along dimension 1, got outputs of shape"
                f" {tuple(outputs.shape)}; give the model one output for each class."
            )
        return F.cross_entropy(
            normalised_logits(outputs),
            targets,
            reduction="none",
            ignore_index=self.ignore_index,
        )


def normalised_logits(outputs: Tensor) -> Tensor:
    """Logits of mean 0 and L2 norm 1 over the classes, shape (B, C, ...)."""
    centred = outputs - outputs.mean(1, keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / norm.clamp_min(LEAST_NORM)
