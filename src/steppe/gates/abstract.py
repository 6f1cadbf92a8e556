"""The protocol of gates, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from steppe.registry.bounds import Ranges, check_bounds
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
