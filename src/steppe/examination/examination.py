"""The result of an examination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steppe.cost import NOTHING, Cost
from steppe.errors import UnknownNameError
from steppe.examination.page import render
from steppe.files import replace_file
from steppe.results import Estimate, Estimates, Spectrum
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table
from steppe.surfaces import Surface


@dataclass(frozen=True, kw_only=True, repr=False)
class Examination(AbstractTabulated):
    """Numbers about one minimum by subject, remarks on them, and a page of all."""

    name: str  # of the network
    groups: Mapping[str, Estimates]  # estimates by subject, in the order of the page
    spectrum: Spectrum | None  # None where it could not be had; a remark says why
    lines: Sequence[Surface]  # loss along random lines, in units of the filters' norms
    remarks: Sequence[str]  # on how to read the numbers, in sentences
    cost: Cost = NOTHING
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def estimates(self) -> Estimates:
        """All estimates by name."""
        return Estimates(
            {k: e for group in self.groups.values() for k, e in group.items()}
        )

    def __getitem__(self, name: str) -> Estimate:
        if name not in self.estimates:
            known = ", ".join(self.estimates)
            raise UnknownNameError(
                f"there is no '{name}' in the examination: it has {known}."
            )
        return self.estimates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.estimates)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each estimate, all with the same columns."""
        return [
            {"subject": subject, **row}
            for subject, group in self.groups.items()
            for row in group.rows()
        ]

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON has them."""
        return {
            "name": self.name,
            "groups": {key: group.to_dict() for key, group in self.groups.items()},
            "spectrum": self.spectrum and self.spectrum.to_dict(),
            "lines": [line.to_dict() for line in self.lines],
            "remarks": list(self.remarks),
            "cost": plain(self.cost),
            "seconds": self.seconds,
            "details": plain(self.details),
        }

    def table(self) -> Table:
        """One row for each estimate, remarks below."""
        cells = [
            (subject if first else "", name, str(estimate), estimate.units)
            for subject, group in self.groups.items()
            for first, (name, estimate) in _firsts(group)
            if not estimate.refusal
        ]
        refused = [
            f"{name} was not measured: {estimate.refusal}"
            for name, estimate in self.estimates.items()
            if estimate.refusal
        ]
        notes = [*self.remarks, *refused]
        return Table(("", "measure", "value", "units"), cells, notes)

    def page(self, *, command: str = "", record: str = "") -> str:
        """The text of the page.

        Args:
            command: that makes it again; empty for the call of the library.
            record: name of a file beside the page with the same numbers, if there is.
        """
        return render(self, command=command, record=record)

    def html(self, path: str | Path) -> Path:
        """Write the page: one file that needs nothing else.

        Args:
            path: of the file.

        Raises:
            SettingError: jinja2 or matplotlib are not installed.
        """
        path = Path(path)
        replace_file(path, self.page().encode())
        return path


def _firsts(group: Estimates) -> list[tuple[bool, tuple[str, Estimate]]]:
    measured = [(key, e) for key, e in group.items() if not e.refusal]
    return [(number == 0, each) for number, each in enumerate(measured)]
