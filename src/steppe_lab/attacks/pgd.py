"""PGD: projected gradient ascent from a random point within the budget.

Source: Madry et al., 2018, arXiv:1706.06083, Section 2.1 and, for 40 steps of a
thirtieth of the budget, the MNIST networks of Section 5.

- The first input on the way that is classified wrongly is kept, so that more steps
  never give fewer successes; the paper takes the last one.
- With several restarts each goes on with the rows that resist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from steppe.adversarial.balls import Norm
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack, ball_of
from steppe_lab.attacks.ascending import ascend
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim

SHARE = 1 / 30  # of the budget, in one step


@ATTACKS.add("pgd", source="Madry et al., 2018, arXiv:1706.06083", steps=40)
@dataclass(frozen=True, kw_only=True)
class PGD(AbstractAttack):
    """Projected gradient ascent of the loss: many steps from a random start.

    Args:
        steps: number of them in each search.
        step: size of one, in units of the inputs; None for a thirtieth of the budget,
            with which 30 steps cross from the centre to its edge.
        restarts: number of searches.
        norm: of the budget: inf, or 2.
        start: of each search: random within the budget, or the input itself.
    """

    bounds: ClassVar[Ranges] = {
        "steps": at_least(1),
        "step": POSITIVE,
        "restarts": at_least(1),
    }
    random: ClassVar[bool] = True

    steps: int = 40
    step: float | None = None
    restarts: int = 1
    norm: Norm = "inf"
    start: Literal["random", "input"] = "random"

    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Inputs after the steps, each projected onto the budget and the bounds."""
        step = SHARE * epsilon if self.step is None else self.step
        best = inputs.clone()
        left = torch.arange(len(inputs), device=inputs.device)
        for number in range(self.restarts):
            rows, places = inputs[left], [draws.places[i] for i in left.tolist()]
            ball = ball_of(rows, epsilon, self.norm)
            start = torch.zeros_like(rows)
            if self.start == "random":
                start = Draws(draws.seed, places).in_ball(ball, number)
            kept = ascend(
                *(victim, rows, labels[left], ball),
                start=start,
                steps=self.steps,
                step=step,
            )
            best[left] = kept.best
            left = left[~kept.fooled]
            if not len(left):
                break
        return best
