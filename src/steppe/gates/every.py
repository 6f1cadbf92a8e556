"""Open every so many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steppe.gates.abstract import GATES, Gate
from steppe.registry.bounds import Ranges, at_least


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
