"""DeepFool: the smallest change that crosses a boundary of the linearised classifier.

Source: Moosavi-Dezfooli, Fawzi and Frossard, 2016, arXiv:1511.04599, Algorithm 2, and
Section 3.3 for other norms.

- The changed input is clipped to its bounds in every step. Steps that are clipped come
  ever nearer to a boundary; 1e-4 of the norm is added to each, as in the authors' code,
  so that they cross it.
- Only the classes that score highest at the start are looked at, as in the authors'
  code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.adversarial.balls import Norm, along_rows
from steppe.registry.bounds import Ranges, at_least
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim, differentiable

BEYOND = 1e-4  # in units of the inputs, of each step


@ATTACKS.add(
    "deepfool",
    source="Moosavi-Dezfooli et al., 2016, arXiv:1511.04599",
    steps=450,
)
@dataclass(frozen=True, kw_only=True)
class DeepFool(AbstractAttack):
    """DeepFool: the smallest change that leads to another class, about.

    Args:
        steps: at most.
        overshoot: share of the change that is added, to cross the boundary.
        candidates: classes that are looked at, the right one among them.
        norm: of the change: 2, or inf.
    """

    bounds: ClassVar[Ranges] = {
        "steps": at_least(1),
        "overshoot": (0.0, 1.0),
        "candidates": at_least(2),
    }
    minimal: ClassVar[bool] = True

    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 10
    norm: Norm = "2"

    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Inputs beyond the nearest boundary; where the steps end, before it."""
        here, total = inputs.clone(), torch.zeros_like(inputs)
        others = self._others(victim, inputs, labels)
        left = torch.arange(len(inputs), device=inputs.device)
        for _ in range(self.steps):
            gaps, slopes, wrong = _boundaries(
                victim, here[left], labels[left], others[left]
            )
            resists = ~wrong
            left = left[resists]
            if not len(left):
                break
            total[left] += self._to_nearest(gaps[resists], slopes[resists])
            moved = inputs[left] + (1 + self.overshoot) * total[left]
            here[left] = victim.clipped(moved, inputs[left])
        return here

    def _others(self, victim: Victim, inputs: Tensor, labels: Tensor) -> Tensor:
        """Wrong classes with the highest scores, shape (B, K)."""
        with torch.no_grad():
            scores = victim.scores(inputs)
        count = min(self.candidates, scores.shape[1]) - 1
        own = torch.nn.functional.one_hot(labels, scores.shape[1]).bool()
        return scores.masked_fill(own, -torch.inf).topk(count, dim=1).indices

    def _to_nearest(self, gaps: Tensor, slopes: Tensor) -> Tensor:
        """The shortest ways onto a boundary, shape (b, ...).

        Args:
            gaps: differences of scores, shape (b, K).
            slopes: their gradients, shape (b, K, ...).
        """
        # The length of a gradient in the dual norm.
        order = 1 if self.norm == "inf" else 2
        lengths = torch.linalg.vector_norm(
            slopes.flatten(2), order, dim=2, dtype=torch.float64
        ).to(gaps)
        # A class whose score does not move is never reached.
        far = torch.where(lengths > 0, gaps.abs() / lengths, torch.inf)
        nearest = far.argmin(1)
        rows = torch.arange(len(gaps), device=gaps.device)
        distance, slope = far[rows, nearest], slopes[rows, nearest]
        length = lengths[rows, nearest]
        way = slope.sign() if self.norm == "inf" else slope / along_rows(length, slope)
        moved = along_rows(distance + BEYOND, slope) * way
        return torch.where(along_rows(length > 0, moved), moved, 0.0)


def _boundaries(
    victim: Victim, inputs: Tensor, labels: Tensor, others: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of other classes over that of the right one, their gradients, and `wrong`.

    Args:
        victim: the classifier.
        inputs: shape (b, ...).
        labels: shape (b,).
        others: classes, shape (b, K).
    """
    with torch.enable_grad():
        at = inputs.detach().requires_grad_()
        scores = differentiable(victim.scores(at))
        gaps = scores.gather(1, others) - scores.gather(1, labels[:, None])
        last = gaps.shape[1] - 1
        slopes = [
            torch.autograd.grad(gap.sum(), at, retain_graph=number < last)[0]
            for number, gap in enumerate(gaps.unbind(1))
        ]
    return gaps.detach(), torch.stack(slopes, 1), scores.argmax(1) != labels
