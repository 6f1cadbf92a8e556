"""Names of packages that are looked up when they are used.

A package calls `lazy` or `offer` once. Both set its `__getattr__` and `__dir__`: a type
checker that saw a `__getattr__` in its text would let every misspelled name pass.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Collection

TYPE_CHECKING = False  # importing typing for it would take longer than all else here
if TYPE_CHECKING:
    from typing import Any

    from steppe.registry.registry import Registry


def lazy(package: str) -> None:
    """Import the names of a package's stub, `__init__.pyi`, on first use.

    The stub has one import for each public name, as in scientific-python's SPEC 1, and
    is all that says them. Sets `__all__` too.

    Args:
        package: its `__name__`.
    """
    homes = _imports(package)

    def find(name: str) -> Any:
        home = homes[name]
        if home == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(home), name)

    sys.modules[package].__all__ = list(homes)  # type: ignore[attr-defined]
    _look_up(package, find, homes)


def offer(package: str, registry: Registry[Any]) -> None:
    """Import all modules of a package, and offer the classes that they registered.

    A class that the package imports by name is offered anyway; its line there, which
    `python -m docs.generator` writes, gives it its type.
    """
    discover(package)
    made = [entry.offered for entry in registry]
    classes = {each.__name__: each for each in made if isinstance(each, type)}
    _look_up(package, classes.__getitem__, classes)


def discover(package: str) -> None:
    """Import every module of a package, so that its methods register themselves."""
    import pkgutil  # a registry needs it, the names of a stub do not

    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        name = f"{package}.{module.name}"
        importlib.import_module(name)
        if module.ispkg:  # a folder of methods that belong together
            discover(name)


def _imports(package: str) -> dict[str, str]:
    """Modules of the names that a package's stub imports."""
    spec = sys.modules[package].__spec__
    assert spec is not None
    # The loader reads from zip files too.
    stub = spec.loader.get_data(f"{spec.origin}i")  # type: ignore[union-attr]
    return {
        alias.name: str(node.module)
        for node in ast.parse(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _look_up(package: str, find: Callable[[str], Any], names: Collection[str]) -> None:
    """Set `__getattr__` and `__dir__` of a package.

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

    vars(module).update(__getattr__=get, __dir__=listed)
