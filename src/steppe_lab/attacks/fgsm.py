"""FGSM: one step of the whole budget along the signs of the gradient.

Source: Goodfellow, Shlens and Szegedy, 2015, arXiv:1412.6572, Section 4. The changed
inputs are clipped to their bounds, as in later work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.adversarial.balls import Norm
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack, whole_step
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim


@ATTACKS.add("fgsm", source="Goodfellow et al., 2015, arXiv:1412.6572")
@dataclass(frozen=True, kw_only=True)
class FGSM(AbstractAttack):
    """Fast gradient sign method: one step of the whole budget, L-infinity."""

    norm: ClassVar[Norm] = "inf"

    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Inputs plus epsilon times the sign of the gradient."""
        return whole_step(victim, inputs, labels, epsilon, self.norm)
