"""The table of a study: one row per network, which statistics and reports read.

It may come from a store, or from a file that another program wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steppe.errors import DataError

STDERR = "_stderr"  # ends the name of the column with the standard errors of a measure


@dataclass(frozen=True)
class Dropped:
    """A trial that is not in the table."""

    trial: str
    reason: str


@dataclass(frozen=True)
class StudyTable:
    """Columns of equal length, and the part that each of them has.

    Args:
        name: of the study.
        columns: values by name; None where there is none.
        factors: columns of settings that were varied, the seed left out.
        measures: columns of measures; the standard errors of MEASURE, where there are
            any, are the column MEASURE_stderr.
        gap: column of the generalization gap, or of another value to be predicted.
        group: columns that name the configuration of a row, so that rows which differ
            in the seed alone are alike in them; the factors where none are given.
        dropped: trials without a row, each with its reason.
        test_samples: that each gap was computed on, where it is a difference of error
            rates in percentage points; None for another gap, or where it is not known.

    Raises:
        DataError: columns of unlike length, or a name that is no column.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]
    factors: tuple[str, ...]
    measures: tuple[str, ...]
    gap: str
    group: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    test_samples: int | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            shortest = min(lengths, key=lengths.__getitem__)
            longest = max(lengths, key=lengths.__getitem__)
            raise DataError(
                f"columns of a table must have one length, got {lengths[shortest]} for "
                f"{shortest} and {lengths[longest]} for {longest}."
            )
        for name in (*self.factors, *self.measures, self.gap, *self.group):
            if name not in self.columns:
                known = ", ".join(self.columns)
                raise DataError(f"there is no column {name}; the columns are {known}.")
        object.__setattr__(self, "group", self.group or self.factors)

    def __len__(self) -> int:
        return len(self.columns[self.gap])

    def stderr(self, measure: str) -> Sequence[Any] | None:
        """Standard errors of a measure; None where the table has none."""
        return self.columns.get(measure + STDERR)
