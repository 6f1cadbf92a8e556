"""The mean loss itself, to be read beside the measures of flatness."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.objective import Objective, check_objective
from steppe.results import Estimate


@MEASURES.add(
    "loss",
    source="Vapnik, 1992, NIPS 4, Principles of Risk Minimization",
    units="loss",
    invariant_to=("layer_rescaling", "unit_permutation"),
    cost="one forward pass",
)
@dataclass(frozen=True, kw_only=True)
class Loss(AbstractMeasure):
    """Mean loss over the data, with its standard error over the samples.

    No flatness: the other measures are compared at a matched loss.
    """

    def __call__(
        self, objective: Objective, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Evaluate; nothing is drawn."""
        check_objective(objective, type(self).__name__)
        return objective.value()
