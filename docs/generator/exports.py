"""Imports of the methods in the packages that offer them, for type checkers.

A method is known at run time by its registration. Type checkers read text alone, so
packages import each class by name too; those lines are written from the registries.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import steppe
from steppe.averaging import AVERAGES
from steppe.bases import BASES
from steppe.gates import GATES
from steppe.geometry import GEOMETRIES
from steppe.measures import MEASURES
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import Registry
from steppe.schedules import SCHEDULES

SOURCE = Path(steppe.__file__).parent
WIDTH = 88  # of a line, as in pyproject.toml
PACKAGES: dict[str, tuple[Registry[Any], ...]] = {
    "__init__.pyi": (OPTIMIZERS, AVERAGES),
    "averaging/__init__.py": (AVERAGES,),
    "bases/__init__.py": (BASES,),
    "gates/__init__.py": (GATES,),
    "geometry/__init__.py": (GEOMETRIES,),
    "measures/__init__.py": (MEASURES,),
    "optimizers/__init__.py": (OPTIMIZERS,),
    "schedules/__init__.py": (SCHEDULES,),
}


def exports() -> dict[Path, str]:
    """Path and text of every package that imports methods by name."""
    texts = {}
    for name, registries in PACKAGES.items():
        path = SOURCE / name
        made = [entry.offered for each in registries for entry in each]
        classes = [each for each in made if isinstance(each, type)]
        texts[path] = with_imports(path.read_text(), classes)
    return texts


def with_imports(text: str, classes: list[type]) -> str:
    """The text of a package, with an import of each class among its own imports."""
    block = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("steppe")
    ]
    lines = text.splitlines()
    present = {(node.module, alias.asname) for node in block for alias in node.names}
    imports = [
        (_place(str(n.module), n.names[0].name), lines[n.lineno - 1 : n.end_lineno])
        for n in block
    ]
    for each in classes:
        if (each.__module__, each.__name__) not in present:
            place = _place(each.__module__, each.__name__)
            imports.append((place, list(_import(each.__module__, each.__name__))))
    ordered = [line for _, lines in sorted(imports) for line in lines]
    first, last = block[0].lineno - 1, block[-1].end_lineno
    return "\n".join([*lines[:first], *ordered, *lines[last:]]) + "\n"


def _place(module: str, name: str) -> tuple[str, bool, bool, str]:
    """Place of an import in the order of ruff: constants, classes, functions."""
    return module, not name.isupper(), not name[0].isupper(), name


def _import(module: str, name: str) -> Iterator[str]:
    start, named = f"from {module} import", f"{name} as {name}"
    if len(f"{start} {named}") <= WIDTH:
        yield f"{start} {named}"
    else:
        yield from (f"{start} (", f"    {named},", ")")
