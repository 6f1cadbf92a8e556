"""Open at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from steppe.gates.abstract import GATES, Gate
from steppe.registry.bounds import Range, Ranges
from steppe.seeds import stream


@GATES.add("sometimes", source="Zhao et al., 2022, arXiv:2203.09962")
@dataclass(frozen=True)
class Sometimes(Gate):
    """Open a step with a probability; all processes and resumed runs decide alike.

    Args:
        probability: of an open step, in [0, 1].
        seed: of the draws; the decision follows from seed and step alone.
    """

    bounds: ClassVar[Ranges] = {"probability": (0.0, 1.0), "seed": Range(whole=True)}

    probability: float
    seed: int = 0

    def opens(self, step: int) -> bool:
        draw = torch.rand(
            (), generator=stream(self.seed, step), dtype=torch.float32, device="cpu"
        )
        return draw.item() < self.probability
