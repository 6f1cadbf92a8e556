"""`steppe study report`: statistics of a study or of a table, on one page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe.errors import UsageError, check_count
from steppe_lab.cli.options import OUT, check_place, open_store, trusted
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import named, progress
from steppe_lab.cli.streams import console

if TYPE_CHECKING:
    from steppe_lab.reports.study.report import StudyReport
    from steppe_lab.reports.study.results import StudySummary
    from steppe_lab.studies.table import StudyTable

LONG = 2000  # networks x measures, from which on there is a bar


class Args(Arguments):
    """Arguments of `steppe study report`."""

    example: ClassVar = (
        'steppe study report results.csv --gap "Generalization gap" --page report.html'
    )

    studies: Positional[tuple[str, ...]] = ()
    """Name of a study in the store, or its beginning; the default is the newest. Or
    tables of other programs, as .csv, .tsv, .txt or .parquet, with a section each."""
    out: Path = OUT
    """Folder that holds the runs."""
    page: Path | None = None
    """Where the page goes; the default for a study of the store is reports/NAME.html
    there, and for tables no page is written without it."""
    gap: str | None = None
    """Column of the generalization gap, or of another value to be predicted. Of a
    table of another program, parts that are not given are guessed, and the report says
    how."""
    factors: tuple[str, ...] = ()
    """Columns of settings that were varied."""
    measures: tuple[str, ...] = ()
    """Columns of measures; standard errors of NAME are read from NAME_stderr."""
    group: tuple[str, ...] = ()
    """Columns that name a configuration, alike for rows that differ in the seed alone;
    the default are the factors."""
    where: str | None = None
    """Rows that are used, such as "epoch == converged and training_loss < 0.01"."""
    within: tuple[str, ...] = ()
    """Columns within whose levels correlations are taken too; the default are all
    factors of few levels."""
    environments: tuple[str, ...] = ()
    """Factors whose changes are the environments of sign errors; the default is all."""
    test_samples: int | None = None
    """Test samples behind each gap, where it is a difference of error rates in
    percentage points: sign errors then leave out pairs whose gaps are too close for
    them. The default is the number of the study; of a table it is not known."""
    trust: tuple[str, ...] = ()
    """Code of yours that may run, as module:function, of studies that an older steppe
    ran; other results are read without code."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object per table instead of sentences and tables."""
    csv: bool = False
    """Print one row per measure and baseline instead."""


def run(args: Args, results: TextIO) -> int:
    """Read, compute, write the page, print."""
    from steppe_lab.reports.study.report import StudyReport
    from steppe_lab.store.json_files import json_line

    if args.as_json and args.csv:
        raise UsageError("--json and --csv print the same numbers; give one of them.")
    if args.test_samples is not None:
        check_count("--test-samples", args.test_samples, 1)
    if args.page is not None:
        check_place(args.page)
    report = StudyReport(_summaries(args))
    page = _page(args, report.summaries)
    if page is not None:
        report.publish(page, _command(args))
    if args.as_json:
        for record in report.records():
            print(json_line(record), file=results)
    elif args.csv:
        results.write(report.csv())
    else:
        _print(report, page, results)
    return 0


def _print(report: StudyReport, page: Path | None, results: TextIO) -> None:
    shown = console(results)
    for summary, sentences, tables in report.terminal(shown.width):
        shown.print(summary.table.name, style="bold", markup=False)
        for sentence in (*summary.notes, *sentences):
            shown.print(sentence, markup=False)
        for table in tables:
            shown.print()
            shown.print(table)
        shown.print()
    if page is not None:
        print(page, file=results)


def _summaries(args: Args) -> list[StudySummary]:
    from steppe_lab.reports.study.summary import summarise

    made = []
    for table, notes in _tables(args):
        # What takes a second needs no bar.
        long = len(table) * len(table.measures) > LONG
        with progress() if long else nullcontext() as report:
            made.append(
                summarise(
                    table,
                    within=args.within,
                    environments=args.environments,
                    test_samples=args.test_samples,
                    notes=notes,
                    report=named(report) if report else None,
                )
            )
    return made


def _tables(args: Args) -> list[tuple[StudyTable, tuple[str, ...]]]:
    """Each table, with notes on its guessed parts."""
    from steppe_lab.studies.guessing import table_from
    from steppe_lab.studies.parts import Parts, with_parts
    from steppe_lab.studies.table_files import ENDINGS, is_table, read_columns

    parts = Parts(args.gap, args.factors, args.measures, args.group, args.where)
    files = [name for name in args.studies if is_table(name)]
    others = [name for name in args.studies if name not in files]
    if files and not others:
        paths = list(map(Path, files))
        made = []
        for path in paths:
            notes: list[str] = []
            guess = table_from(path.stem, read_columns(path, notes), parts)
            made.append((guess.table, (*notes, *guess.notes)))
        return made
    for other in others:
        if Path(other).suffix and Path(other).is_file():
            raise UsageError(
                f"the file of a table must end in {', '.join(ENDINGS)}, got {other}; "
                "save it as one of them."
            )
    if len(args.studies) > 1:
        raise UsageError(
            f"a report is of one study of the store, or of tables, got {others[0]} "
            f"among {len(args.studies)}; give a command for each."
        )
    from steppe_lab.studies.stored import open_results

    name = args.studies[0] if args.studies else None
    stored = open_results(open_store(args.out), name, trust=trusted(args.trust))
    return [(with_parts(stored.table(), parts), ())]


def _page(args: Args, summaries: Sequence[StudySummary]) -> Path | None:
    from steppe_lab.studies.table_files import is_table

    if args.page is not None or any(map(is_table, args.studies)):
        return args.page
    return args.out / "reports" / f"{summaries[0].table.name}.html"


def _command(args: Args) -> str:
    """The command that makes the page again."""
    words = ["steppe", "study", "report", *args.studies]
    for name in (
        "gap",
        "factors",
        "measures",
        "group",
        "where",
        "within",
        "environments",
    ):
        value = getattr(args, name)
        if value:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name}", *values]
    if args.test_samples is not None:
        words += ["--test-samples", str(args.test_samples)]
    if args.out != OUT:
        words += ["--out", str(args.out)]
    if args.page is not None:
        words += ["--page", str(args.page)]
    return shlex.join(words)
