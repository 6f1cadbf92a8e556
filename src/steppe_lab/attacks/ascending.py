"""Ascent of the loss by steps of one size, projected onto the budget and the bounds.

Shape letters: B rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.adversarial.balls import Ball, along_rows
from steppe_lab.attacks.abstract import steepest
from steppe_lab.attacks.victim import Victim


class Kept:
    """The best inputs so far: of a row the first that is classified wrongly.

    Args:
        inputs: before any change, shape (B, ...).
    """

    def __init__(self, inputs: Tensor) -> None:
        self.best = inputs
        self.fooled = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)

    def see(self, inputs: Tensor, wrong: Tensor) -> bool:
        """Take inputs of rows that are not fooled yet; True where all rows are.

        Args:
            inputs: shape (B, ...).
            wrong: whether they are classified wrongly, shape (B,).
        """
        self.best = torch.where(along_rows(self.fooled, inputs), self.best, inputs)
        self.fooled = self.fooled | wrong
        return bool(self.fooled.all())


def ascend(
    victim: Victim,
    inputs: Tensor,
    labels: Tensor,
    ball: Ball,
    *,
    start: Tensor,
    steps: int,
    step: float,
) -> Kept:
    """Go up from a displacement, and keep the first wrongly classified inputs.

    Args:
        victim: the classifier.
        inputs: shape (B, ...).
        labels: shape (B,).
        ball: of their displacements.
        start: displacements, shape (B, ...).
        steps: number of gradients.
        step: size of a step, in the norm of the ball.
    """
    kept = Kept(inputs)
    here = victim.clipped(inputs + start, inputs)
    for _ in range(steps):
        _, gradient, wrong = victim.slopes(here, labels)
        if kept.see(here, wrong):
            return kept
        moved = here + step * steepest(ball, gradient)
        # The displacement is projected outside of the graph: a clamp inside would
        # have no gradient at the bounds, and the network would look robust.
        (change,) = ball.project([moved - inputs])
        here = victim.clipped(inputs + change, inputs)
    kept.see(here, victim.wrong(here, labels))
    return kept
