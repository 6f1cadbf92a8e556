"""Open where the gradient is longer than usual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from steppe.gates.abstract import GATES, LookingGate
from steppe.registry.bounds import FINITE, LENGTH, Range, Ranges


@GATES.add("adaptive", source="Jiang et al., 2023, ICLR (AE-SAM)")
@dataclass(frozen=True)
class AdaptiveGate(LookingGate):
    """Open where the gradient is longer than usual, as AE-SAM does.

    With q the squared norm of the first gradient, a step sets m to d m + (1 - d) q and
    v to d v + (1 - d) (q - m)^2, and is open where q >= m + c sqrt(v); c goes linearly
    from `start` to `end` over the training, so that open steps become more frequent
    (Jiang et al., 2023, arXiv:2304.14647, Algorithm 1, whose lambda_2 is `start`,
    lambda_1 `end` and delta `decay`). Both begin at zero, so the first step is open for
    the usual settings; a norm that is not finite closes a step and is not counted.
    With several loops per step each of them is decided and counted. Reading the norm
    makes the device wait once per loop.

    Args:
        steps: length of the training, in optimizer steps.
        start: c at the first step, in standard deviations.
        end: c from step `steps` on.
        decay: d, the share of mean and variance that a step keeps, in [0, 1).
    """

    bounds: ClassVar[Ranges] = {
        "steps": LENGTH,
        "start": FINITE,
        "end": FINITE,
        "decay": Range(0.0, 1.0, below=True),
    }

    steps: int
    start: float = 1.0
    end: float = -1.0
    decay: float = 0.9

    def opens_for(self, squared_norm: float, step: int, seen: dict[str, float]) -> bool:
        if not math.isfinite(squared_norm):
            return False
        keep = self.decay
        mean = keep * seen.get("mean", 0.0) + (1 - keep) * squared_norm
        spread = (squared_norm - mean) ** 2
        variance = keep * seen.get("variance", 0.0) + (1 - keep) * spread
        seen.update(mean=mean, variance=variance)
        done = min(step / self.steps, 1.0)
        c = self.start + (self.end - self.start) * done
        return squared_norm >= mean + c * math.sqrt(variance)
