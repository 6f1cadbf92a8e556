"""Columns of a table as arrays, without the rows in which something is missing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.errors import DataError, SettingError, brief

Table = Mapping[str, Sequence[Any]]
Names = str | Sequence[str]
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

MANY = 100  # levels, from which on a column has values rather than levels


@dataclass(frozen=True)
class Levels:
    """A column of labels: the level of each row, and the levels in order.

    Numbers are in their order, labels of other kinds in that of their first row.
    """

    codes: Whole  # (rows,), indices into `names`
    names: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Complete:
    """Rows of a table that have all that a statistic asks for."""

    numbers: dict[str, Floats]  # (rows,) each
    factors: dict[str, Levels]
    clusters: Whole  # (rows,), 0 to the number of configurations - 1
    kept: Whole  # (rows,), their places in the table
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def count(self) -> int:
        """Number of configurations."""
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0


def complete(
    table: Table,
    numbers: Sequence[str],
    factors: Sequence[str] = (),
    cluster: Names | None = None,
) -> Complete:
    """Read columns, and leave out the rows in which one of them has no value.

    Args:
        table: columns of one length by name.
        numbers: columns of numbers; None, NaN and infinite values are missing.
        factors: columns of labels, of any hashable kind; None and NaN are missing.
        cluster: column or columns that name the configuration of a row; each row is
            one of its own where none are given.

    Raises:
        DataError: no such column, columns of unlike length, a text among numbers.
    """
    together = (cluster,) if isinstance(cluster, str) else tuple(cluster or ())
    check_names(factors)
    columns = _columns(table, [*numbers, *factors, *together])
    values = {name: floats(name, columns[name]) for name in numbers}
    labels = {name: _listed(columns[name]) for name in (*factors, *together)}
    gone = {name: ~np.isfinite(each) for name, each in values.items()}
    for name, each in labels.items():
        absent = _absent(each)
        gone[name] = gone.get(name, False) | absent
    kept = np.flatnonzero(~np.any(list(gone.values()), axis=0))
    coded = {
        name: levels([each[i] for i in kept.tolist()]) for name, each in labels.items()
    }
    return Complete(
        {name: each[kept] for name, each in values.items()},
        {name: coded[name] for name in factors},
        joined([coded[name].codes for name in together]) if together else _own(kept),
        kept,
        tuple(
            _left_out("finite value" if name in values else "value", name, each)
            for name, each in gone.items()
            if each.any()
        ),
    )


def check_names(factors: Sequence[str]) -> None:
    """Refuse one text in place of several names of columns.

    Raises:
        SettingError: names the text.
    """
    if isinstance(factors, str):
        raise SettingError(
            f"factors must be several names, such as [{factors!r}], got {factors!r}."
        )


def _columns(table: Table, names: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Columns by name, all of one length."""
    columns = {name: column(table, name) for name in dict.fromkeys(names)}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"columns of a table must have one length, got {listed}.")
    return columns


def column(table: Table, name: str) -> Sequence[Any]:
    """A column of a table.

    Raises:
        DataError: there is none of this name.
    """
    if not isinstance(name, str):
        raise SettingError(f"a column must be named by a text, got {brief(name)}.")
    try:
        values = table[name]
    except KeyError:
        known = ", ".join(map(str, table))
        raise DataError(
            f"there is no column {name}; the columns are {known}."
        ) from None
    return values if isinstance(values, list | tuple | np.ndarray) else list(values)


def floats(name: str, values: Sequence[Any]) -> Floats:
    """A column of numbers, shape (rows,); NaN where there is none.

    Raises:
        DataError: a value is no number.
    """
    array = np.asarray(values)
    if array.dtype.kind in "biuf" and array.ndim == 1:
        return array.astype(np.float64)
    return np.array([_number(name, i, each) for i, each in enumerate(values)], float)


def levels(values: Sequence[Hashable]) -> Levels:
    """Labels of rows as codes."""
    numbers = _alike(values)
    if numbers is not None:
        different, inverse = np.unique(numbers, return_inverse=True)
        return Levels(inverse.reshape(-1).astype(np.int64), tuple(different.tolist()))
    try:
        names = list(dict.fromkeys(values))
    except TypeError:
        # Lists, as JSON has them, are labels by their text.
        return levels([repr(each) for each in values])
    numeric = all(isinstance(each, int | float | np.number) for each in names)
    names = sorted(names) if numeric else names  # type: ignore[type-var]
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([places[each] for each in values], dtype=np.int64)
    return Levels(codes, tuple(map(_python, names)))


def joined(codes: Sequence[Whole]) -> Whole:
    """One code per row for rows that are alike in several codes, shape (rows,)."""
    if not codes:
        return np.zeros(0, dtype=np.int64)
    rows = np.zeros(len(codes[0]), dtype=np.int64)
    for code in codes:
        # Dense after each column, so that no product grows beyond rows * levels.
        rows = rows * (int(code.max(initial=0)) + 1) + code
        rows = np.unique(rows, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return rows


def with_levels(factors: Mapping[str, Levels]) -> tuple[dict[str, Levels], list[str]]:
    """Factors with at most `MANY` levels, and a note on each of the others."""
    few = {name: each for name, each in factors.items() if len(each) <= MANY}
    notes = [
        f"{name} is left out: it has {len(each)} levels; put them into at most {MANY}."
        for name, each in factors.items()
        if name not in few
    ]
    return few, notes


def _own(kept: Whole) -> Whole:
    return np.arange(len(kept), dtype=np.int64)


def _left_out(kind: str, name: str, gone: NDArray[np.bool_]) -> str:
    count = int(gone.sum())
    rows = "row was" if count == 1 else "rows were"
    return f"{count} {rows} left out: no {kind} of {name}."


def _alike(values: Sequence[Any]) -> NDArray[Any] | None:
    """Numbers of one type, which need no loop; None for other labels."""
    kinds = set(map(type, values))
    if len(kinds) != 1 or not kinds <= {bool, int, float}:
        return None
    numbers = np.asarray(values)
    return numbers if numbers.dtype.kind in "bif" else None


def _absent(values: Sequence[Any]) -> NDArray[np.bool_]:
    """Whether each label is missing, shape (rows,)."""
    numbers = _alike(values)
    if numbers is not None:
        absent: NDArray[np.bool_] = np.isnan(numbers)
        return absent
    return np.array([_missing(label) for label in values], dtype=bool)


def _missing(value: Any) -> bool:
    # NaN alone differs from itself.
    return value is None or (isinstance(value, float | np.floating) and value != value)


def _number(name: str, row: int, value: Any) -> float:
    if value is None:
        return float("nan")
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"column {name} must hold numbers, got {brief(value)} in row {row}."
        ) from None


def _listed(values: Sequence[Any]) -> Sequence[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
