"""Auto-PGD: projected gradient ascent that chooses its own step sizes.

Source: Croce and Hein, 2020, arXiv:2003.01690, Algorithm 1, and Equation 6 for the
difference of logits ratio.

- The first search begins at the input itself, the others at random points within the
  budget; the paper begins all of them at random points.
- Success is looked for at every point, and not at the one of the largest loss alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from steppe.adversarial.auto_pgd import auto_pgd
from steppe.adversarial.balls import Ball, Norm
from steppe.errors import SettingError
from steppe.registry.bounds import Ranges, at_least
from steppe.seeds import stream
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack
from steppe_lab.attacks.ascending import Kept
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim, cross_entropy

LEAST = 1e-12  # of a difference of scores that is divided by


@ATTACKS.add("apgd", source="Croce and Hein, 2020, arXiv:2003.01690", steps=101)
@dataclass(frozen=True, kw_only=True)
class APGD(AbstractAttack):
    """Auto-PGD: ascent of the loss with step sizes of its own.

    Args:
        steps: of each search.
        restarts: number of searches; the first one begins at the input.
        norm: of the budget: inf, or 2.
        loss: cross_entropy, or dlr for the difference of logits ratio, which does not
            change when all scores are multiplied by a number; for 3 classes or more.
    """

    bounds: ClassVar[Ranges] = {"steps": at_least(1), "restarts": at_least(1)}
    random: ClassVar[bool] = True

    steps: int = 100
    restarts: int = 1
    norm: Norm = "inf"
    loss: Literal["cross_entropy", "dlr"] = "cross_entropy"

    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Inputs at the first success of each row, or at its last point."""
        low, high = victim.room(inputs)
        ball = Ball(
            like=[inputs],
            radius=epsilon,
            norm=self.norm,
            share="row",
            low=[low],
            high=[high],
        )
        loss = dlr if self.loss == "dlr" else cross_entropy
        kept = Kept(inputs)

        def evaluate(change: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            here = inputs + change[0]
            losses, gradient, wrong = victim.slopes(here, labels, loss)
            kept.see(here, wrong)
            return losses.double(), [gradient]

        auto_pgd(
            evaluate,
            ball,
            steps=self.steps,
            starts=[
                ball.project([draws.in_ball(ball, number)])
                for number in range(1, self.restarts)
            ],
            generator=stream(draws.seed),
        )
        return kept.best


def dlr(scores: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio of each row, shape (B,).

    Raises:
        SettingError: fewer than three classes.
    """
    classes = scores.shape[1]
    if classes < 3:
        raise SettingError(
            f"the loss dlr of apgd needs 3 classes or more, got {classes}; use "
            "apgd:loss=cross_entropy."
        )
    ordered = scores.sort(dim=1, descending=True).values
    own = scores.gather(1, labels[:, None]).squeeze(1)
    is_first = scores.argmax(1) == labels
    other = torch.where(is_first, ordered[:, 1], ordered[:, 0])
    return (other - own) / (ordered[:, 0] - ordered[:, 2]).clamp(min=LEAST)
