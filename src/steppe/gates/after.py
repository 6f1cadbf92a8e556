"""Open late in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steppe.gates.abstract import GATES, Gate
from steppe.registry.bounds import LENGTH, Ranges


@GATES.add("after", source="Zhou et al., 2025, arXiv:2410.10373")
@dataclass(frozen=True)
class After(Gate):
    """Open once a share of the training is done: late-phase SAM.

    Args:
        fraction: share of the training that the base does alone, in [0, 1].
        steps: length of the training, in optimizer steps.
    """

    bounds: ClassVar[Ranges] = {"fraction": (0.0, 1.0), "steps": LENGTH}

    fraction: float
    steps: int

    def opens(self, step: int) -> bool:
        return step / self.steps >= self.fraction
