"""When a method is used: on the other steps its base takes an ordinary step.

A closed gate costs one gradient. A gate is a pure function of the step, but for
`AdaptiveGate`, which looks at the first gradient and remembers two numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from steppe.registry.bounds import FINITE, LENGTH, Range, Ranges, at_least, check_bounds
from steppe.registry.composed import register_reader
from steppe.registry.registry import Registry
from steppe.registry.specs import Spec

GATES: Registry[Spec] = Registry("gate", Spec)


class Gate(ABC):
    """Tells on which steps a method is used; subclasses may be dataclasses."""

    bounds: ClassVar[Ranges] = {}  # of the settings that are numbers

    def __post_init__(self) -> None:
        check_bounds(vars(self), self.bounds)

    @abstractmethod
    def opens(self, step: int) -> bool:
        """Whether the step after `step` completed ones may be open."""


register_reader(Gate, GATES)


class LookingGate(Gate):
    """Decides by the first gradient, which a closed step then steps with."""

    def opens(self, step: int) -> bool:
        """Every step may be open."""
        return True

    @abstractmethod
    def opens_for(self, squared_norm: float, step: int, seen: dict[str, float]) -> bool:
        """Whether a step goes on.

        Args:
            squared_norm: of the first gradient; its mean over the processes.
            step: completed steps before it.
            seen: what the gate remembers, saved with the optimizer; may be changed.
        """


@GATES.add("every", source="Mosaic Composer's SAM, setting interval")
@dataclass(frozen=True)
class Every(Gate):
    """Open every `interval`-th step, beginning with the first.

    Args:
        interval: steps from one open step to the next, >= 1.
    """

    bounds: ClassVar[Ranges] = {"interval": at_least(1)}

    interval: int

    def opens(self, step: int) -> bool:
        return step % self.interval == 0


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
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return torch.rand((), generator=generator).item() < self.probability


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
