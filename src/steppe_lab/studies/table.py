"""The table of a study: one row per network, which statistics and reports read.

It may come from a store, or from a file that another program wrote.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steppe.errors import DataError

STDERR = "_stderr"  # ends the name of the column with the standard errors of a measure


def no_column(name: str, columns: Iterable[str]) -> DataError:
    """One sentence on a name of no column, with the nearest one."""
    folded = {each.casefold(): each for each in columns if each}
    given = name.casefold()
    near = [each for each in folded if given and each.startswith(given)]
    near = near or difflib.get_close_matches(given, folded, n=1, cutoff=0.6)
    hint = f": did you mean '{folded[near[0]]}'? The" if near else "; the"
    return DataError(
        f"there is no column {name}{hint} columns are {', '.join(folded.values())}."
    )


@dataclass(frozen=True)
class Dropped:
    """A trial that is not in the table."""

    trial: str
    reason: str


@dataclass(frozen=True)
class Refused:
    """A measure that networks of a table do not allow."""

    measure: str
    reason: str  # without a full stop
    count: int  # networks that it was refused by
    among: int  # networks of the table that it was asked of

    def __str__(self) -> str:
        by = f"{self.count:,} of {self.among:,} networks"
        return f"{self.measure}: refused by {by} ({self.reason})"


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
        refused: measures without a value for some networks, each with a reason.
        judged_on: samples that the best epoch was chosen on, "test" or "validation";
            "" where the table does not say.
        from_file: whether another program wrote it, so that its rows are not trials of
            a plan.

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
    refused: tuple[Refused, ...] = ()
    judged_on: str = ""
    from_file: bool = False

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
                raise no_column(name, self.columns)
        object.__setattr__(self, "group", self.group or self.factors)

    def __len__(self) -> int:
        return len(self.columns[self.gap])

    def stderr(self, measure: str) -> Sequence[Any] | None:
        """Standard errors of a measure; None where the table has none."""
        return self.columns.get(measure + STDERR)
