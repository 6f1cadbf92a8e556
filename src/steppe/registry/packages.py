"""Names of packages that are looked up when they are used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any

from steppe.registry.registry import Registry, discover

Names = tuple[Callable[[str], Any], Callable[[], list[str]]]


def lazy(package: str, find: Callable[[str], Any], names: Collection[str]) -> Names:
    """`__getattr__` and `__dir__` of a package whose names are looked up on first use.

    Args:
        package: its `__name__`.
        find: gives the object of one of the names.
        names: that the package has beside those it has imported.
    """
    module = sys.modules[package]

    def get(name: str) -> Any:
        if name not in names:
            text = f"module '{package}' has no attribute '{name}'"
            # With name and obj Python adds the nearest name to its message.
            raise AttributeError(text, name=name, obj=module)
        value = find(name)
        setattr(module, name, value)
        return value

    def listed() -> list[str]:
        public = getattr(module, "__all__", None) or vars(module)
        return sorted({*public, *names})

    return get, listed


def offer(package: str, registry: Registry[Any]) -> Names:
    """Import all modules of a package, and offer the classes that they registered."""
    discover(package)
    classes = {entry.make.__name__: entry.make for entry in registry}
    return lazy(package, classes.__getitem__, classes)
