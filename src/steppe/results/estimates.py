"""Estimates of several quantities, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steppe.results.estimate import Estimate
from steppe.results.tables import (
    UNKNOWN,
    AbstractTabulated,
    Table,
    aligned,
    joined,
    with_error,
)

SCREEN = 100  # letters of a line: names of measures, values and units beside another
DOUBT = " (?)"
NO_ERROR = f"{UNKNOWN}: one draw, such as one batch, has no standard error."
DOUBTED = "(?) its budget ended before the accuracy that its settings ask for."


@dataclass(frozen=True, eq=False, repr=False)
class Estimates(AbstractTabulated, Mapping[str, Estimate]):
    """Estimates by name, which print as a table.

    `json.dumps(estimates.to_dict())` is JSON, `pandas.DataFrame(estimates.rows())` a
    data frame, and the rows are those of `csv.DictWriter` too.
    """

    by_name: Mapping[str, Estimate]

    def __getitem__(self, name: str) -> Estimate:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All estimates as JSON has them; see `Estimate.to_dict`."""
        return {name: estimate.to_dict() for name, estimate in self.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Mapping[str, Any]]) -> Estimates:
        """The estimates that `to_dict` gave; see `Estimate.from_dict`."""
        return cls({name: Estimate.from_dict(one) for name, one in record.items()})

    def rows(self) -> list[dict[str, Any]]:
        """One row for each estimate, all with the same columns."""
        return [{"measure": name, **estimate.row()} for name, estimate in self.items()]

    def refusals(self) -> list[str]:
        """A sentence for each reason, with all measures that it refused."""
        reasons: dict[str, list[str]] = {}
        for name, estimate in self.items():
            if estimate.refusal:
                reasons.setdefault(estimate.refusal, []).append(name)
        return [f"{_were(names)} not measured: {r}" for r, names in reasons.items()]

    def table(self) -> Table:
        """One row for each estimate, and below a sentence for each refusal."""
        measured = [(name, e) for name, e in self.items() if not e.refusal]
        values = aligned([with_error(e.value, e.stderr) for _, e in measured])
        doubts = {True: "", False: DOUBT}
        unmet = [DOUBTED] if any(not e.converged for _, e in measured) else []
        alone = [NO_ERROR] if any(e.stderr == math.inf for _, e in measured) else []
        return Table(
            ("measure", "value", "samples", "units"),
            [
                (name, value + doubts[e.converged], str(e.samples or "none"), e.units)
                for value, (name, e) in zip(values, measured, strict=True)
            ],
            [*unmet, *alone, *map(_shortened, self.refusals())],
            most=len(self),
            width=SCREEN,
        )


def _were(names: list[str]) -> str:
    return f"{joined(names)} {'was' if len(names) == 1 else 'were'}"


def _shortened(sentence: str) -> str:
    """The reason without the fix, where the whole would be longer than a line."""
    reason, semicolon, _ = sentence.partition(";")
    return f"{reason}." if semicolon and len(sentence) > SCREEN else sentence
