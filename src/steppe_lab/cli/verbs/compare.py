"""`steppe compare`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, TextIO

import tyro
from pydantic import Field
from tyro.conf import Positional

from steppe_lab.cli.options import OUT, cores, open_store, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import progress
from steppe_lab.cli.streams import console
from steppe_lab.runs.settings import CompareSettings


class Args(Arguments, CompareSettings):
    """Arguments of `steppe compare`."""

    optimizers: Positional[tuple[str, ...]] = ("sgd", "sam", "lpf_sgd")
    """Optimizers to compare, such as sgd, sam:rho=0.1 or adam, or sgd+ema for the
    average of its weights; see `steppe list`. The first one is what the others are
    compared with."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    out: Path = OUT
    """Folder for runs and reports; finished runs in it are not run again."""
    workers: int = Field(default_factory=cores, ge=1, le=1024)
    """Processes, one thread each."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object per network instead of tables."""


def run(args: Args, results: TextIO) -> int:
    """Do what is left of the comparison, print it, write the report."""
    from steppe_lab.reports.comparison.publishing import publish
    from steppe_lab.reports.comparison.reading import reading
    from steppe_lab.reports.comparison.rows import rows
    from steppe_lab.reports.comparison.summary import summarise
    from steppe_lab.reports.comparison.sweep import sweep_of
    from steppe_lab.reports.comparison.terminal import sweep_table, table
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.comparison import Study
    from steppe_lab.studies.sweep import with_validation

    use_data_dir(args.data_dir)
    names = CompareSettings.model_fields
    settings = CompareSettings(**{name: getattr(args, name) for name in names})
    with progress() as tell:
        if settings.sweep:
            settings = with_validation(settings)
        comparison = Study(settings, open_store(args.out)).run(
            workers=args.workers,
            progress=lambda p: tell(p.done, p.finished, p.total, p.text, p.ended),
        )
    code = 1 if comparison.failures else 0
    if args.as_json or not comparison.rows:
        for failure in comparison.failures:
            sys.stderr.write(f"failed: {failure}\n")
    if not comparison.rows:
        return code
    report = publish(comparison, args.out / "reports", data_dir=args.data_dir)
    if args.as_json:
        for row in rows(comparison):
            print(json_line(row), file=results)
        return code
    page = console(results)
    summary = summarise(comparison)
    page.print(table(summary))
    sweep = sweep_of(comparison)
    if sweep is not None:
        page.print(sweep_table(sweep))
        told, answer = list(comparison.failures), sweep.answer
    else:
        *told, answer = reading(summary)
    for sentence in told:
        page.print(f"- {sentence}", markup=False)
    page.print(f"\n{answer}", markup=False)
    page.print(f"\nReport: {report}", markup=False, soft_wrap=True)
    return code
