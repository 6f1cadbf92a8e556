"""A classifier as attacks see it: scores of inputs that lie between two bounds.

Shape letters: B rows, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steppe.errors import UsageError

# Losses (B,) of scores (B, C) and labels (B,).
RowLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Victim:
    """A classifier whose inputs lie between two bounds.

    All that comes between an input and the network, such as a standardisation, is part
    of `scores`, so that budgets and bounds are those of the inputs themselves.

    Args:
        scores: gives those of inputs (B, ...), shape (B, C); a row depends on no other.
        low: the least value of an input.
        high: the largest value.
    """

    scores: Callable[[Tensor], Tensor]
    low: float
    high: float

    def clipped(self, moved: Tensor, inputs: Tensor) -> Tensor:
        """Moved inputs within the bounds, shape (B, ...).

        An input that is outside of them may move towards them alone.

        Args:
            moved: shape (B, ...).
            inputs: before, shape (B, ...).
        """
        low, high = inputs.clamp(max=self.low), inputs.clamp(min=self.high)
        return torch.clamp(moved, low, high)

    def room(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest displacements that stay within the bounds."""
        low, high = self.low - inputs, self.high - inputs
        return low.clamp(max=0.0), high.clamp(min=0.0)

    def wrong(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Whether the class of the largest score is another one, shape (B,)."""
        with torch.no_grad():
            return self.scores(inputs).argmax(1) != labels

    def slopes(
        self, inputs: Tensor, labels: Tensor, loss: RowLoss | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses (B,), their gradients by the inputs (B, ...), and `wrong` (B,).

        Args:
            inputs: shape (B, ...).
            labels: shape (B,).
            loss: of each row; None for the cross-entropy.

        Raises:
            UsageError: scores that have no gradient by the inputs.
        """
        with torch.enable_grad():
            at = inputs.detach().requires_grad_()
            scores = differentiable(self.scores(at))
            losses = (loss or cross_entropy)(scores, labels)
            (gradient,) = torch.autograd.grad(losses.sum(), at, materialize_grads=True)
        return losses.detach(), gradient.detach(), scores.argmax(1) != labels


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each row, shape (B,)."""
    return nn.functional.cross_entropy(scores, labels, reduction="none")


def differentiable(scores: Tensor) -> Tensor:
    """The same scores.

    Raises:
        UsageError: they have no gradient.
    """
    if not scores.requires_grad:
        raise UsageError(
            "attacks follow the gradient of the scores by the inputs, but the network "
            "gives scores without one; leave detach() and no_grad() out of its "
            "forward, or use --attacks uniform."
        )
    return scores
