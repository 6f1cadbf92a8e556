"""A statistic with its interval, as all functions on tables return it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from steppe_lab.statistics.intervals import LEVEL


@dataclass(frozen=True, kw_only=True)
class AbstractStatistic:
    """A value, the interval that covers the true one, and the rows behind both.

    As text it is the value with its interval; a format such as `f"{tau:.2f}"` is that
    of all three numbers.
    """

    value: float  # NaN where there is none; a note says why
    low: float = math.nan  # NaN where there is no interval
    high: float = math.nan
    level: float = LEVEL  # coverage of the interval
    p: float = math.nan  # two-sided, of a true value of 0; NaN where not tested
    rows: int  # of the table that were used
    clusters: int  # configurations they belong to
    notes: tuple[str, ...] = ()  # sentences on what was left out, and on doubts

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside of the interval."""
        return value < self.low or value > self.high

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    def __str__(self) -> str:
        return format(self, ".3f")

    def __format__(self, spec: str) -> str:
        if math.isnan(self.value):
            return "none"
        text = format(self.value, spec or ".3f")
        if math.isnan(self.low):
            return text
        low, high = format(self.low, spec or ".3f"), format(self.high, spec or ".3f")
        return f"{text} [{low}, {high}]"


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {_text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _text(key: Any) -> str:
    return ", ".join(map(str, key)) if isinstance(key, tuple) else str(key)
