"""Constant value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steppe.registry.bounds import FINITE, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractRecord


@SCHEDULES.add("constant", source="elementary")
@dataclass(frozen=True)
class Constant(AbstractRecord):
    """The same value in every step."""

    bounds: ClassVar[Ranges] = {"value": FINITE}

    value: float

    def __call__(self, step: int) -> float:
        del step
        return self.value
