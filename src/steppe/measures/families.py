"""Families of measures: the folders that their files stand in."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from steppe.errors import SettingError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.registry.registry import Choice, Entry
from steppe.registry.specs import MeasureSpec

ALL = "all"


def families() -> dict[str, list[Entry[MeasureSpec]]]:
    """The registered measures by the name of their family, both sorted by name."""
    grouped: dict[str, list[Entry[MeasureSpec]]] = {}
    for entry in sorted(MEASURES, key=lambda each: (family_of(each), each.name)):
        grouped.setdefault(family_of(entry), []).append(entry)
    return grouped


def family_of(entry: Entry[MeasureSpec]) -> str:
    """The folder of a measure, such as "spectral"."""
    return str(entry.make.__module__).split(".")[-2]


def members(group: str) -> list[Entry[MeasureSpec]]:
    """The measures that "all" or the name of a family stands for; of others none.

    Raises:
        SettingError: a group with settings.
    """
    grouped = families()
    name, colon, rest = group.partition(":")
    # module:Class of the user may have a module of the same name.
    is_code = rest.partition(":")[0].isidentifier()
    if is_code or (name != ALL and name not in grouped):
        return []
    inside = [e for key, each in grouped.items() if name in (ALL, key) for e in each]
    if colon:
        raise SettingError(
            f"a group of measures takes no settings, got '{group}'; give them to one "
            f"of its measures: {', '.join(entry.name for entry in inside)}."
        )
    return inside


def ungrouped(
    asked: Iterable[Any],
    inside: Callable[[str], Sequence[Entry[MeasureSpec]]] = members,
) -> list[Any]:
    """Measures in place of groups; one that is named itself too keeps its settings.

    Args:
        asked: texts, choices or measures.
        inside: the measures of a group, by its name; none of what is no group.
    """
    asked = list(asked)
    groups = {text: inside(text) for text in asked if isinstance(text, str)}
    seen = {_name(each) for each in asked if not groups.get(_key(each))}
    flat: list[Any] = []
    for each in asked:
        if entries := groups.get(_key(each)):
            flat += [entry.name for entry in entries if entry.name not in seen]
            seen.update(entry.name for entry in entries)
        else:
            flat.append(each)
    return flat


def _key(asked: Any) -> str:
    return asked if isinstance(asked, str) else ""


def _name(asked: Any) -> str:
    if isinstance(asked, AbstractMeasure):
        return asked.choice().name
    text = asked.name if isinstance(asked, Choice) else _key(asked)
    return text.partition(":")[0].replace("-", "_")


def about(family: str) -> str:
    """The line that says which measures a family has."""
    package = families()[family][0].make.__module__.rpartition(".")[0]
    return (inspect.getdoc(sys.modules[package]) or "").partition("\n")[0]
