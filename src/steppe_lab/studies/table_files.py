"""Tables that other programs wrote: columns of a CSV or Parquet file."""

from __future__ import annotations

import csv
import importlib
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steppe.errors import DataError, SettingError, brief, install
from steppe_lab.store.json_files import cannot

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
_EMPTY = ("", "nan", "na", "n/a", "null", "none")  # cells that hold nothing
_SEPARATORS = ",;\t"
_SPREADSHEET = re.compile(f"sep=([{_SEPARATORS}])", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)


def is_table(text: str) -> bool:
    """Whether a word of the command names a file with a table."""
    return Path(text).suffix.lower() in ENDINGS


def comma_number(cells: Sequence[Any]) -> str:
    """The first text of a column that is a number with a decimal comma; "" for none."""
    texts = (cell for cell in cells if isinstance(cell, str))
    return next(filter(_COMMA.fullmatch, texts), "")


def read_columns(path: Path, notes: list[str] | None = None) -> dict[str, list[Any]]:
    """Columns by name, in the order of the file; cells that hold nothing are None.

    A column whose cells are all numbers has numbers, and any other one texts. Texts may
    be separated by commas, semicolons or tabs; without commas between cells, a comma
    within a number is read as its decimal point. A first line such as `sep=;`, which
    is for spreadsheets, names the separator.

    Args:
        path: of the file.
        notes: list that gets a sentence where decimal commas were read.

    Raises:
        DataError: no table with a heading and a row, a heading of one cell, rows of
            unlike length, or two columns of one name.
        SettingError: a Parquet file, and no pyarrow.
        StoreError: the file cannot be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; name one with a table.") from None
    except OSError as error:
        raise cannot("read", path, error) from error
    parquet = path.suffix.lower() == ".parquet"
    columns = (
        _from_parquet(raw, path)
        if parquet
        else _from_csv(raw, path, [] if notes is None else notes)
    )
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"a table must have a heading and a row, and {path} has none.")
    return columns


def _from_csv(raw: bytes, path: Path, notes: list[str]) -> dict[str, list[Any]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text; save it as CSV in UTF-8."
        ) from error
    heading, _, below = text.partition("\n")
    separator = max(_SEPARATORS, key=heading.count)
    first = 2  # row of the first numbers
    if said := _SPREADSHEET.fullmatch(heading.strip('"\r')):
        text, separator, first = below, said[1], 3
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
    if not rows:
        return {}
    names, *body = rows
    if len(names) == 1 and body:
        raise DataError(
            f"the first line of {path} must name its columns with commas, semicolons "
            f"or tabs between them, got {brief(names[0])}; remove lines above them."
        )
    _check_names(names, path)
    for number, row in enumerate(body, start=first):
        if len(row) != len(names):
            raise DataError(
                f"each row of {path} must have {len(names)} cells as its heading, row "
                f"{number} has {len(row)}; put cells with separators in quotes."
            )
    columns = {
        name: _typed([row[place] for row in body]) for place, name in enumerate(names)
    }
    return columns if separator == "," else _with_points(columns, notes)


def _with_points(
    columns: dict[str, list[Any]], notes: list[str]
) -> dict[str, list[Any]]:
    """Columns of numbers with decimal commas as numbers."""
    made = dict(columns)
    for name, cells in columns.items():
        if not (text := comma_number(cells)):
            continue
        # A point beside a comma may part thousands.
        if any("." in cell for cell in cells if isinstance(cell, str)):
            continue
        read = _typed(["" if c is None else c.replace(",", ".") for c in cells])
        if not any(isinstance(cell, str) for cell in read):
            made[name] = read
            number = text.replace(",", ".")
            if not any("decimal" in note for note in notes):
                notes.append(
                    f"Commas within numbers are read as decimal points: {text} is "
                    f"{number}."
                )
    return made


def _from_parquet(raw: bytes, path: Path) -> dict[str, list[Any]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow: Any = importlib.import_module("pyarrow")
    except ImportError as error:
        raise SettingError(
            f"{path} needs pyarrow, which is not installed; {install('studies')}."
        ) from error
    try:
        table = parquet.read_table(io.BytesIO(raw))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file; write it again.") from error
    _check_names(table.column_names, path)
    return {
        name: [_plain(cell) for cell in table[name].to_pylist()]
        for name in table.column_names
    }


def _check_names(names: Sequence[str], path: Path) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(
            f"columns must have names of their own, and {path} has "
            f"{sorted(twice)[0]!r} twice; rename one."
        )


def _typed(cells: Sequence[str]) -> list[Any]:
    """Cells as numbers where all are, else as texts."""
    known = [None if cell.strip().lower() in _EMPTY else cell.strip() for cell in cells]
    try:
        numbers = [None if cell is None else float(cell) for cell in known]
    except ValueError:
        return list(known)
    if all(n is None or (math.isfinite(n) and n == int(n)) for n in numbers):
        whole = not any(cell and set(cell) & set(".eE") for cell in known)
        if whole:
            return [None if n is None else int(n) for n in numbers]
    return list(numbers)


def _plain(cell: Any) -> Any:
    """A cell of Parquet as a number, a text or None."""
    if isinstance(cell, float) and math.isnan(cell):
        return None
    known = cell is None or isinstance(cell, bool | int | float | str)
    return cell if known else str(cell)
