"""Provenance of a report: options of the command, and versions of packages."""

from __future__ import annotations

import platform
from importlib.metadata import version

from pydantic import BaseModel

from steppe_lab.runs.settings import option_of

PACKAGES = ("steppe", "torch", "numpy", "scipy")


def options_of(settings: BaseModel, without: str = "") -> list[str]:
    """Options for all settings that differ from their defaults."""
    words = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name == without or value == field.default:
            continue
        values = value if isinstance(value, tuple) else (value,)
        if value is True:
            values = ()
        words += [f"--{option_of(name)}", *map(str, values)]
    return words


def made_with() -> dict[str, str]:
    """Versions of the packages a report is made with, and of Python."""
    versions = {name: version(name) for name in PACKAGES}
    return {**versions, "python": platform.python_version()}
