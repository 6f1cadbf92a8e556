"""Several base optimizers as one, such as Muon for matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch.optim import Optimizer

from steppe.registry.bounds import Bounds
from steppe.stepping.context import FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import AbstractOptimizer


class Together(AbstractOptimizer):
    """Several bases that step as one, each with the plain gradient.

    Args:
        bases: with parameters of their own.
    """

    bounds: ClassVar[Bounds] = {}

    def __init__(self, bases: Sequence[Optimizer]) -> None:
        super().__init__(bases, settings={})

    def plan(self, step: StepContext) -> Plan:
        """Evaluate once, where the weights are."""
        yield FULL_BATCH
