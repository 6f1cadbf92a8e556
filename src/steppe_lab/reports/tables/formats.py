"""Tables of studies as files: Parquet, CSV, JSON lines, pickles."""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from steppe.errors import SettingError, UsageError
from steppe_lab.reports.tables.arrow import arrow_of, check_pyarrow
from steppe_lab.reports.tables.names import ENDINGS, Format
from steppe_lab.reports.text.csv_text import csv_text
from steppe_lab.store.json_files import json_line, write_atomically
from steppe_lab.studies.table import StudyTable


def format_of(path: Path, asked: str | None) -> Format:
    """The format of a file: the one that is asked for, else that of its ending.

    Raises:
        SettingError: an ending of no format or of another one, or no pyarrow for
            Parquet.
    """
    ending = ENDINGS.get(path.suffix.lower())
    known = ", ".join(get_args(Format))
    if asked is None and ending is None:
        raise SettingError(
            f"the file must end in {', '.join(ENDINGS)}, got {path}; name it so, or "
            f"give --format {known.replace(', ', '|')}."
        )
    if asked is not None and ending not in (None, asked):
        raise SettingError(
            f"--format {asked} and the file {path} contradict each other; leave "
            "--format out, or name another file."
        )
    chosen: Any = asked or ending
    if chosen == "parquet":
        check_pyarrow("a Parquet file")
    return chosen  # type: ignore[no-any-return]  # one of the names


def export(table: StudyTable, path: Path, form: Format) -> None:
    """Write a table, whole or not at all; a file of that name is replaced.

    Parquet has the types of columns, and the facts of the table in its metadata. CSV
    has numbers that come back bit for bit, and empty cells where there is none. JSON
    is a list of objects, JSON lines are the objects alone; each has a line, and null
    where there is no number. A pickle is a dictionary of lists by the names of columns.

    Args:
        table: of a study.
        path: of the file; missing folders are made.
        form: of the file.

    Raises:
        UsageError: a table without rows.
        StoreError: the file cannot be written.
    """
    if not len(table):
        raise no_rows(table)
    write_atomically(path, WRITERS[form](table))


def no_rows(table: StudyTable) -> UsageError:
    """The refusal of a table without rows, which says why it has none."""
    why = f"; the first, {table.dropped[0].trial}: {table.dropped[0].reason}"
    count = f"{len(table.dropped):,} trials are not in its table"
    return UsageError(
        f"the study {table.name} has no row ({count}{why if table.dropped else ''}); "
        f"run `steppe study run {table.name}` first."
    )


def _parquet(table: StudyTable) -> bytes:
    parquet: Any = importlib.import_module("pyarrow.parquet")
    buffer = io.BytesIO()
    parquet.write_table(arrow_of(table), buffer)
    return buffer.getvalue()


def _csv(table: StudyTable) -> bytes:
    plain = str | int | float | None  # all else is JSON, which other programs read
    rows = (
        {k: v if isinstance(v, plain) else json_line(v) for k, v in row.items()}
        for row in _rows(table)
    )
    return csv_text(list(rows)).encode()


def _json(table: StudyTable) -> bytes:
    rows = ",\n".join(_lines(table))
    return f"[\n{rows}\n]\n".encode()


def _json_lines(table: StudyTable) -> bytes:
    return "".join(f"{line}\n" for line in _lines(table)).encode()


def _lines(table: StudyTable) -> list[str]:
    return [json_line(row) for row in _rows(table)]


def _pickle(table: StudyTable) -> bytes:
    return pickle.dumps({name: list(column) for name, column in table.columns.items()})


def _rows(table: StudyTable) -> list[dict[str, Any]]:
    names, columns = list(table.columns), table.columns.values()
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


WRITERS: dict[Format, Callable[[StudyTable], bytes]] = {
    "parquet": _parquet,
    "csv": _csv,
    "json": _json,
    "jsonl": _json_lines,
    "pkl": _pickle,
}
