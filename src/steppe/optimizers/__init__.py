"""Optimizers that find flat minima, one file per method.

An optimizer is one module beside this one that adds a class to `OPTIMIZERS`; the class
is then `steppe.optimizers.<Class>`, and its name works on the command line.
"""

from __future__ import annotations

from typing import Any

from steppe.registry.registry import discover
from steppe.stepping.driver import OPTIMIZERS, AbstractOptimizer

__all__ = ["OPTIMIZERS", "AbstractOptimizer"]

discover(__name__)
_CLASSES: dict[str, Any] = {entry.make.__name__: entry.make for entry in OPTIMIZERS}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        return _CLASSES[name]
    raise AttributeError(f"module 'steppe.optimizers' has no attribute '{name}'.")


def __dir__() -> list[str]:
    return sorted([*globals(), *_CLASSES])
