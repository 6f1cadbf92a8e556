"""Ranges of settings as a class declares them, and the one check of them.

A pair `(low, high)` is a closed range of numbers. What is counted, or leaves out one of
its ends, is a `Range`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe.errors import (
    SettingError,
    brief,
    check_count,
    check_integer,
    check_range,
)


@dataclass(frozen=True)
class Range:
    """Values that a setting may have: finite numbers between two ends.

    Args:
        low: the least value.
        high: the largest value.
        whole: whole numbers alone.
        above: `low` itself is left out.
        below: `high` itself is left out.
        several: a tuple of any length, of which every entry is such a number.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False
    several: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse a value outside, in one sentence with the name and the rule."""
        if not self.several:
            self._check_number(name, value)
            return
        if not isinstance(value, list | tuple):
            raise SettingError(f"{name} must be several numbers, got {brief(value)}.")
        for entry in value:
            self._check_number(f"every entry of {name}", entry)

    def _check_number(self, name: str, value: Any) -> None:
        if self.whole and self.low == -math.inf:
            check_integer(name, value)
        elif self.whole:
            check_count(name, value, int(self.low))
        check_range(
            name, value, self.low, self.high, above=self.above, below=self.below
        )


POSITIVE = Range(0.0, above=True)
FINITE = Range()
LENGTH = Range(1.0)  # of a training, in steps

Bounds = Mapping[str, tuple[float, float]]  # of what a schedule may move
Ranges = Mapping[str, Range | tuple[float, float]]


def at_least(low: int) -> Range:
    """Whole numbers from one on."""
    return Range(low, whole=True)


def check_bounds(settings: Mapping[str, Any], bounds: Ranges) -> None:
    """Refuse settings outside of their declared ranges.

    Args:
        settings: values by name. None stands for "left open" and passes.
        bounds: ranges by name; settings without one are not looked at.

    Raises:
        SettingError: names the setting, the rule and the value.
    """
    for name, bound in bounds.items():
        value = settings[name]
        if value is not None:
            limits = bound if isinstance(bound, Range) else Range(*bound)
            limits.check(name, value)
