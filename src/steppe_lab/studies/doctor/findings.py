"""Findings of an examination: the severity, the place, the sentence and the repair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Severity = Literal["damaged", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("damaged", "warning", "note")
# What --fix does: nothing, move to the folder of damaged things, remove a leftover,
# free the lease of a dead process, write the marker of the store, bring its format up.
Repair = Literal["", "set_aside", "remove", "free", "mark", "migrate"]


@dataclass(frozen=True)
class Finding:
    """A thing in a store that is not as it should be.

    Args:
        severity: "damaged" for what cannot be used, "warning" for what can, "note" for
            what is as it should be and may surprise.
        path: of the file or folder.
        text: a sentence without its full stop.
        fix: what to do, as a clause without its full stop.
        repair: done by `mend`; "" where a person must decide.
        run: id of the run, where it is of one.
        mended: the repair has been done.
    """

    severity: Severity
    path: Path
    text: str
    fix: str
    repair: Repair = ""
    run: str = ""
    mended: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is damage that is still there."""
        return self.severity == "damaged" and not self.mended

    def done(self) -> Finding:
        """The same, mended."""
        return replace(self, mended=True)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True)
class Examination:
    """The findings of a store.

    Args:
        root: of the store.
        runs: number of runs by status; those that cannot be read are "damaged".
        findings: the worst first.
        quick: without reading weights and samples of runs.
    """

    root: Path
    runs: Counter[str]
    findings: tuple[Finding, ...]
    quick: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, or all of it is mended."""
        return not any(finding.counts for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "store": str(self.root),
            "sound": self.is_sound,
            "quick": self.quick,
            "runs": dict(self.runs),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by path."""
    return tuple(
        sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), str(f.path)))
    )
