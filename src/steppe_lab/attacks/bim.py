"""BIM: the fast gradient sign method in several small steps.

Source: Kurakin, Goodfellow and Bengio, 2017, arXiv:1607.02533, Section 2.2.

- Ten steps of a fifth of the budget, as in foolbox; the paper takes steps of 1/255, and
  the smaller of 255 epsilon + 4 and 1.25 times 255 epsilon of them, rounded.
- The first input on the way that is classified wrongly is kept, so that more steps
  never give fewer successes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.adversarial.balls import Norm
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack, ball_of
from steppe_lab.attacks.ascending import ascend
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim

SHARE = 0.2  # of the budget, in one step


@ATTACKS.add("bim", source="Kurakin et al., 2017, arXiv:1607.02533", steps=10)
@dataclass(frozen=True, kw_only=True)
class BIM(AbstractAttack):
    """Basic iterative method: small steps along signs of gradients, L-infinity.

    Args:
        steps: number of them.
        step: size of one, in units of the inputs; None for a fifth of the budget.
    """

    bounds: ClassVar[Ranges] = {"steps": at_least(1), "step": POSITIVE}
    norm: ClassVar[Norm] = "inf"

    steps: int = 10
    step: float | None = None

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
        ball = ball_of(inputs, epsilon, "inf")
        start = torch.zeros_like(inputs)
        return ascend(
            victim, inputs, labels, ball, start=start, steps=self.steps, step=step
        ).best
