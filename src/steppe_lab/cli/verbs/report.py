"""`steppe report`: the page of a finished comparison, made again from stored rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe_lab.cli.options import OUT, open_store, trusted
from steppe_lab.cli.parsing import Arguments


class Args(Arguments):
    """Arguments of `steppe report`."""

    example: ClassVar = "steppe report compare-digits --out steppe-runs"

    name: Positional[str | None] = None
    """Name of the comparison, or its beginning; the default is the newest."""
    out: Path = OUT
    """Folder that holds the runs."""
    trust: tuple[str, ...] = ()
    """Code of yours that the comparison may run, as module:function; no other is."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object per network instead of the place of the report."""


def run(args: Args, results: TextIO) -> int:
    """Collect, render, say where."""
    from steppe_lab.reports.comparison.report import ComparisonReport
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.comparison import stored_study

    store = open_store(args.out)
    comparison = stored_study(store, args.name, trust=trusted(args.trust)).collect()
    report = ComparisonReport(comparison)
    page = report.publish(args.out / "reports", again=True)
    if args.as_json:
        for row in report.rows():
            print(json_line(row), file=results)
        return 0
    print(page, file=results)
    return 0
