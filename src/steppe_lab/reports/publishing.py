"""Reports as files: the page and the rows of a comparison, written when they change."""

from __future__ import annotations

import platform
import shlex
from importlib.metadata import version
from pathlib import Path

from steppe_lab.reports.page import render
from steppe_lab.reports.rows import to_csv
from steppe_lab.studies.compare import Comparison
from steppe_lab.studies.files import digest, write_atomically
from steppe_lab.studies.settings import CompareSettings

PACKAGES = ("steppe", "torch", "numpy", "scipy")


def publish(comparison: Comparison, folder: Path, *, again: bool = False) -> Path:
    """Write the page, and the rows as CSV beside it, unless they are there.

    Args:
        comparison: what to report.
        folder: gets NAME.html and NAME.csv, and loses older ones of that name.
        again: write them even if these very rows have been reported.

    Returns:
        The path of the page.
    """
    path = folder / f"{comparison.settings.name}.html"
    versions = {name: version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    rows = digest([to_csv(comparison), list(comparison.failures), versions])
    mark = f"<!-- rows {rows} -->\n"
    if not again and _ends_with(path, mark):
        return path
    page = render(
        comparison, command=command_of(comparison.settings), versions=versions
    )
    write_atomically(path.with_suffix(".csv"), to_csv(comparison))
    write_atomically(path, page.rstrip() + "\n" + mark)
    return path


def command_of(settings: CompareSettings) -> str:
    """The command that makes a comparison, with what differs from the defaults."""
    words = ["steppe", "compare", *settings.optimizers]
    for name, field in CompareSettings.model_fields.items():
        value = getattr(settings, name)
        if name == "optimizers" or value == field.default:
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def _ends_with(path: Path, mark: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8").endswith(mark)
