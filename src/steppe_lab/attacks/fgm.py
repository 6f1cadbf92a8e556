"""FGM: one step of the whole budget along the gradient.

Source: Goodfellow, Shlens and Szegedy, 2015, arXiv:1412.6572, Section 4, with the L2
norm in place of the largest entry, as Miyato et al., 2017, arXiv:1605.07725, Equation
5, have it. The changed inputs are clipped to their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.adversarial.balls import Norm
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack, whole_step
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim


@ATTACKS.add(
    "fgm",
    source="Goodfellow et al., 2015, arXiv:1412.6572; Miyato et al., 2017, "
    "arXiv:1605.07725",
)
@dataclass(frozen=True, kw_only=True)
class FGM(AbstractAttack):
    """Fast gradient method: one step of the whole budget, L2."""

    norm: ClassVar[Norm] = "2"

    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Inputs plus epsilon times the gradient over its length."""
        return whole_step(victim, inputs, labels, epsilon, self.norm)
