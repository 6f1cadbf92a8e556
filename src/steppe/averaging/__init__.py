"""Averages of the weights along training, one file per method.

An average is one module beside this one that adds a class to `AVERAGES`; the class is
then `steppe.averaging.<Class>`. It costs memory and no gradient: any optimizer runs
under it. `reestimate` makes running statistics fit averaged weights.
"""

from __future__ import annotations

from typing import Any

from steppe.averaging.abstract import AVERAGES, AbstractAverage, AverageSpec
from steppe.averaging.batch_norm import reestimate
from steppe.registry.registry import discover

__all__ = ["AVERAGES", "AbstractAverage", "AverageSpec", "reestimate"]

discover(__name__)
_CLASSES: dict[str, Any] = {entry.make.__name__: entry.make for entry in AVERAGES}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return _CLASSES[name]
    raise AttributeError(f"module 'steppe.averaging' has no attribute '{name}'.")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CLASSES])
