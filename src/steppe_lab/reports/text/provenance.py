"""Provenance of a report: the command, versions of packages, places of trainings."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

from steppe_lab.runs.provenance import Origin

PACKAGES = ("steppe", "torch", "numpy", "scipy")


def origin_sentences(
    origins: Sequence[Origin], subject: str = "The networks were"
) -> list[str]:
    """A sentence for each place that networks were trained at.

    Args:
        origins: in the order of the sentences.
        subject: of a sentence that is the only one, with its verb.
    """
    if len(origins) > 1:
        subject = "Some of it was"
    return [_origin_sentence(origin, subject) for origin in origins]


def _origin_sentence(origin: Origin, subject: str) -> str:
    threads = "1 thread" if origin.threads == 1 else f"{origin.threads} threads"
    near = origin.device == "cpu"
    place = f"{origin.processor}, {threads}" if near else origin.device
    text = f"{subject} trained with steppe {origin.steppe} and torch "
    text += f"{origin.torch} on {place}"
    if origin.commit is None:
        return f"{text}."
    state = ", with changes to tracked files" if origin.changed else ""
    return f"{text}, in a folder at commit {origin.commit[:12]}{state}."


def made_with() -> dict[str, str]:
    """Versions of the packages a report is made with, and of Python."""
    versions = {name: version(name) for name in PACKAGES}
    return {**versions, "python": platform.python_version()}
