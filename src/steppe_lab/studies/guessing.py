"""The parts of a table that steppe did not make: its gap, factors and measures.

What is not given is guessed from names and values of the columns, and each guess is a
sentence, so that nobody takes it for a fact.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.errors import DataError, UsageError
from steppe_lab.studies.parts import Parts, used_rows
from steppe_lab.studies.row_conditions import Columns, as_number
from steppe_lab.studies.table import STDERR, StudyTable, no_column
from steppe_lab.studies.table_files import comma_number

_LEVELS = 20  # of a factor of numbers, at most
_INDEX = {"", "index", "row", "unnamed_0"}
_NAMES = {
    *("trial", "run", "id", "name", "run_id", "hash", "path", "seed", "stopped"),
    *("parent", "packed_with"),
}
# A column with such a word in its name is a score or a cost.
_SCORES = {
    *("loss", "accuracy", "acc", "error", "err", "auc", "f1", "perplexity"),
    *("epoch", "epochs", "step", "steps", "iteration", "iterations"),
    *("time", "seconds", "duration", "parameters", "params", "date"),
}
# Numbers as people write them, with thousands, percent signs and errors.
_NUMBER = re.compile(r"[+-]?[.,]*\d[\d.,]*(e[+-]?\d+)?\s*(%|(±|\+-|\().*)?", re.I)
_ALONG = {"epoch", "step", "iteration", "checkpoint"}


@dataclass(frozen=True)
class Guess:
    """A table with its parts, and a sentence for each part that was guessed."""

    table: StudyTable
    notes: tuple[str, ...]


def table_from(name: str, columns: Columns, parts: Parts) -> Guess:
    """The table of a study from plain columns.

    Rows that a condition leaves out, and those without a gap, are in `dropped`.

    Args:
        name: of the table.
        columns: by name, of equal length.
        parts: what is known.

    Raises:
        UsageError: no column looks like a gap or like a measure, or no row is left.
        DataError: a name that is no column.
    """
    notes: list[str] = []
    given = {n: c for n, c in columns.items() if _word(n) not in _INDEX}
    where = parts.where or _where(given, notes)
    gap = parts.gap or _gap(given, notes)
    if gap not in given:
        raise no_column(gap, given)
    _check_numbers(given, {gap, *parts.measures})
    named, dropped = used_rows(given, gap, where)
    taken = {gap, *parts.factors, *parts.measures, *parts.group}
    factors = parts.factors or _factors(named, taken, notes)
    measures = parts.measures or _measures(named, {*taken, *factors}, notes)
    table = StudyTable(
        name,
        named,
        tuple(factors),
        tuple(measures),
        gap,
        parts.group,
        tuple(dropped),
        from_file=True,
    )
    return Guess(table, tuple(notes))


def _check_numbers(columns: Columns, names: set[str]) -> None:
    """Refuse columns of texts that are meant as numbers.

    Raises:
        DataError: one with a decimal comma, or with a text that is no number.
    """
    for name in names & columns.keys():
        if text := comma_number(columns[name]):
            raise DataError(
                f"the column {name} holds texts such as '{text}', which is no number; "
                "write decimal points, or separate the cells of the file by semicolons."
            )
        if text := _odd_text(columns[name]):
            raise DataError(
                f"the column {name} must hold numbers, and {text!r} is none; write "
                "numbers, and leave cells empty that have none."
            )


def _odd_text(cells: Sequence[Any]) -> str:
    """The first text that is no number, of a column of which half looks like numbers.

    Returns:
        The text; "" for a column of another kind.
    """
    known = [cell for cell in cells if cell is not None]
    texts = [cell for cell in known if isinstance(cell, str)]
    like = len(known) - sum(not _NUMBER.fullmatch(text) for text in texts)
    odd = (text for text in texts if as_number(text) is None)
    return next(odd, "") if 2 * like >= len(known) else ""


def _where(columns: Columns, notes: list[str]) -> str:
    """The rows at the end of trainings, where a table has rows along them too."""
    for name, cells in columns.items():
        if not _ALONG & _words(name) or "best" in _words(name):
            continue
        words = {cell for cell in cells if cell is not None and as_number(cell) is None}
        numbers = {cell for cell in cells if as_number(cell) is not None}
        if len(words) == 1 and numbers:
            (word,) = words
            notes.append(
                f"Rows with {name} == {word} alone are used, since the others look "
                "like the same networks earlier in training; --where says otherwise."
            )
            return f"{name} == {word}"
        if len(numbers) > 1:
            notes.append(
                f"{name} has {len(numbers)} values: if a network has several rows, "
                f'choose one of them with --where "{name} == {max(numbers)}".'
            )
    return ""


def _gap(columns: Columns, notes: list[str]) -> str:
    numeric = [name for name, cells in columns.items() if _is_numeric(cells)]
    near = [name for name in numeric if "gap" in _words(name)]
    near.sort(key=lambda name: _word(name) not in ("gap", "generalization_gap"))
    if not near:
        _check_numbers(columns, {name for name in columns if "gap" in _words(name)})
        raise UsageError(
            "no column of numbers has gap in its name; name the one to be predicted "
            f"with --gap, of {', '.join(numeric) or 'which there are none'}."
        )
    notes.append(f"{near[0]} is taken for the gap; --gap names another column.")
    return near[0]


def _factors(columns: Columns, taken: set[str], notes: list[str]) -> list[str]:
    free = [name for name in columns if name not in taken and not _is_known(name)]
    able = [name for name in free if _is_factor(columns[name])]
    made: list[str] = []
    for name in able:
        # A finer name of another factor, such as "SGD 0.1" of SGD, says it twice.
        coarser = [
            other
            for other in able
            if other != name and _settles(columns[name], columns[other])
        ]
        twin = [o for o in coarser if _settles(columns[o], columns[name])]
        if [o for o in coarser if o not in twin or able.index(o) < able.index(name)]:
            notes.append(f"{name} is left out: its values say those of {coarser[0]}.")
        else:
            made.append(name)
    said = ", ".join(made) or "no column"
    notes.append(f"Factors are taken to be {said}; --factors names others.")
    return made


def _measures(columns: Columns, taken: set[str], notes: list[str]) -> list[str]:
    made = [
        name
        for name, cells in columns.items()
        if name not in taken
        and not _is_known(name)
        and not name.endswith(STDERR)
        and _is_numeric(cells)
        and len(set(cells) - {None}) > 1
    ]
    for name, cells in columns.items():
        free = name not in taken and not _is_known(name)
        if free and (text := _odd_text(cells)):
            notes.append(
                f"{name} is left out: it looks like numbers, and {text!r} is none; "
                "write numbers, and leave cells empty that have none."
            )
    if not made:
        raise UsageError(
            "no column looks like a measure: one of numbers that is no score, factor "
            "or seed; name them with --measures."
        )
    notes.append(
        f"Measures are taken to be {', '.join(made)}; --measures names others."
    )
    return made


def _is_factor(cells: Sequence[Any]) -> bool:
    """Whether values repeat as those of a setting do."""
    levels = set(cells)
    if None in levels or len(levels) < 2 or len(levels) > len(cells) / 2:
        return False
    return not _is_numeric(cells) or len(levels) <= _LEVELS


def _settles(finer: Sequence[Any], coarser: Sequence[Any]) -> bool:
    """Whether a level of the first always goes with one level of the second."""
    pairs = set(zip(finer, coarser, strict=True))
    return len(pairs) == len(set(finer))


def _is_numeric(cells: Sequence[Any]) -> bool:
    known = [cell for cell in cells if cell is not None]
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in known)
    return bool(known) and numbers


def _is_known(name: str) -> bool:
    """Whether a name says that a column is neither a factor nor a measure."""
    return _word(name) in _NAMES or bool(_SCORES & _words(name))


def _word(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _words(name: str) -> set[str]:
    return set(_word(name).split("_"))
