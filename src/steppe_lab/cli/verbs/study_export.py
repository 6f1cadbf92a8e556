"""`steppe study export`: the table of a study in a file."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TextIO

from tyro.conf import Positional

from steppe_lab.cli.options import OUT, check_place, open_store, trusted
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.reports.tables.names import Format


class Args(Arguments):
    """Arguments of `steppe study export`."""

    example: ClassVar = "steppe study export --out table.parquet"

    study: Positional[str | None] = None
    """Name of the study, or its beginning; the default is the newest."""
    out: Path
    """File to write, which is replaced: .parquet, .csv, .json, .jsonl for a JSON object
    on each line, or .pkl for a dictionary of lists."""
    format: Format | None = None
    """Format of the file, where its ending does not say it."""
    store: Path = OUT
    """Folder that holds the runs."""
    trust: tuple[str, ...] = ()
    """Code of yours that may run, as module:function, of studies that an older steppe
    ran; other results are read without code."""


def run(args: Args, results: TextIO) -> int:
    """Collect the table, write the file."""
    from steppe_lab.reports.tables.formats import export, format_of
    from steppe_lab.reports.tables.notes import notes_on
    from steppe_lab.studies.stored import open_results

    form = format_of(args.out, args.format)
    check_place(args.out)
    store = open_store(args.store)
    table = open_results(store, args.study, trust=trusted(args.trust)).table()
    export(table, args.out, form)
    page = console(results)
    page.print(str(args.out), markup=False, soft_wrap=True)
    print_notes(page, notes_on(table))
    return 0
