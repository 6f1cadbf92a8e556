"""Uniform noise within the budget: how robust a network is without an adversary.

Source: additive uniform noise of foolbox, Rauber et al., 2020,
doi:10.21105/joss.02607.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steppe.adversarial.balls import Norm
from steppe.registry.bounds import Ranges, at_least
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack
from steppe_lab.attacks.ascending import Kept
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim


@ATTACKS.add("uniform", source="Rauber et al., 2020, doi:10.21105/joss.02607", steps=0)
@dataclass(frozen=True, kw_only=True)
class Uniform(AbstractAttack):
    """Uniform noise within the budget, without a gradient, L-infinity.

    Args:
        draws: number of draws, of which the first success counts.
    """

    bounds: ClassVar[Ranges] = {"draws": at_least(1)}
    random: ClassVar[bool] = True
    norm: ClassVar[Norm] = "inf"

    draws: int = 1

    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Inputs plus noise, clipped to their bounds."""
        kept = Kept(inputs)
        for number in range(self.draws):
            noise = epsilon * draws.uniform(inputs, number)
            noisy = victim.clipped(inputs + noise, inputs)
            if kept.see(noisy, victim.wrong(noisy, labels)):
                break
        return kept.best
