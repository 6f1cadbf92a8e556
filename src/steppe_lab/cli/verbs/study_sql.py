"""`steppe study sql`: a query over the tables of studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe.errors import UsageError
from steppe_lab.cli.options import OUT, open_store, trusted
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console

if TYPE_CHECKING:
    from steppe_lab.studies.table import StudyTable

DIGITS = 6


class Args(Arguments):
    """Arguments of `steppe study sql`."""

    example: ClassVar = 'steppe study sql "SELECT lr, avg(gap) FROM runs GROUP BY lr"'

    query: Positional[str]
    """A SELECT, in the SQL of DuckDB. The table of the study is runs; those of all
    studies of the folder have the names of the studies, in double quotes."""
    study: str | None = None
    """Name of the study that runs is the table of, or its beginning; the default is
    the newest."""
    out: Path = OUT
    """Folder that holds the runs."""
    trust: tuple[str, ...] = ()
    """Code of yours that may run, as module:function, of studies that an older steppe
    ran; other results are read without code."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print a list of JSON objects, one for each row, instead of a table."""
    csv: bool = False
    """Print comma-separated values instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Answer the query."""
    if args.as_json and args.csv:
        raise UsageError("--json and --csv contradict each other; give one of them.")
    from steppe_lab.reports.tables.sql import check_duckdb, query
    from steppe_lab.reports.text.csv_text import csv_text
    from steppe_lab.store.json_files import json_line

    check_duckdb()
    answer = query(args.query, _tables(args))
    rows = [dict(zip(answer.names, row, strict=True)) for row in answer.rows]
    if args.as_json:
        print(json_line(rows), file=results)
    elif args.csv:
        # Without rows the heading alone.
        text = csv_text(rows or [dict.fromkeys(answer.names)])
        results.write(text if rows else text.partition("\n")[0] + "\n")
    else:
        _print(answer.names, answer.rows, results)
    return 0


def _tables(args: Args) -> dict[str, StudyTable]:
    """Tables that the query may be about; those that it does not name are not read."""
    from steppe_lab.reports.tables.sql import RUNS
    from steppe_lab.studies.stored import open_results, study_names

    store, trust = open_store(args.out), trusted(args.trust)
    first = open_results(store, args.study, trust=trust)
    named = [name for name in study_names(store) if name in args.query]
    tables = {}
    if RUNS in args.query.lower() or not named:
        tables[RUNS] = first.table()
    for name in filter(RUNS.__ne__, named):
        same = name == first.settings.stored_name
        study = first if same else open_results(store, name, trust=trust)
        tables[name] = study.table()
    return tables


def _print(names: tuple[str, ...], rows: Any, results: TextIO) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, names))
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    page = console(results)
    page.print(table)
    page.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
