"""Values that are listed, each from one boundary to the next."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import ClassVar

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractRecord


@SCHEDULES.add("piecewise", source="elementary")
@dataclass(frozen=True)
class Piecewise(AbstractRecord):
    """The first value up to the first boundary, then the second one, and so on.

    Args:
        boundaries: steps from which on the next value holds, ascending.
        values: one more than there are boundaries.

    Example:
        >>> [Piecewise((2, 4), (0.1, 0.3, 0.2))(t) for t in (0, 1, 2, 3, 4, 99)]
        [0.1, 0.1, 0.3, 0.3, 0.2, 0.2]
    """

    bounds: ClassVar[Ranges] = {
        "boundaries": Range(several=True),
        "values": Range(several=True),
    }
    times: ClassVar[tuple[str, ...]] = ("boundaries",)

    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.boundaries) != sorted(self.boundaries):
            raise SettingError(f"boundaries must ascend, got {self.boundaries}.")
        if len(self.values) != len(self.boundaries) + 1:
            raise SettingError(
                f"values must be one more than boundaries, got {len(self.values)} "
                f"values and {len(self.boundaries)} boundaries."
            )

    def __call__(self, step: int) -> float:
        return self.values[bisect.bisect_right(self.boundaries, step)]
