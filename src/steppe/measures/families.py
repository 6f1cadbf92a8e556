"""Families of measures: the folders that their files stand in."""

from __future__ import annotations

import inspect
import sys

from steppe.measures.abstract import MEASURES
from steppe.registry.registry import Entry
from steppe.registry.specs import MeasureSpec


def families() -> dict[str, list[Entry[MeasureSpec]]]:
    """The registered measures by the name of their family, both sorted by name."""
    grouped: dict[str, list[Entry[MeasureSpec]]] = {}
    for entry in sorted(MEASURES, key=lambda each: (family_of(each), each.name)):
        grouped.setdefault(family_of(entry), []).append(entry)
    return grouped


def family_of(entry: Entry[MeasureSpec]) -> str:
    """The folder of a measure, such as "spectral"."""
    return str(entry.make.__module__).split(".")[-2]


def about(family: str) -> str:
    """The line that says which measures a family has."""
    package = families()[family][0].make.__module__.rpartition(".")[0]
    return (inspect.getdoc(sys.modules[package]) or "").partition("\n")[0]
