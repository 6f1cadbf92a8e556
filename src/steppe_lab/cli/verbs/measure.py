"""`steppe measure`: the flatness of checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TextIO

import tyro
from pydantic import Field
from tyro.conf import Positional

from steppe.measuring.modes import Mode
from steppe_lab.cli.messages import say
from steppe_lab.cli.options import (
    OUT,
    CheckpointArguments,
    belongs,
    check_place,
    loss_kind,
    trusted,
    use_data_dir,
)
from steppe_lab.cli.progress import in_tenths, progress
from steppe_lab.cli.streams import console, print_notes


class Args(CheckpointArguments):
    """Arguments of `steppe measure`."""

    example: ClassVar = (
        "steppe measure RUN@best spectral lpf:sigma=0.02 --and OTHER@best"
    )

    measures: Positional[tuple[str, ...]] = ("top_eigenvalue", "trace", "lpf")
    """Measures, such as lpf:sigma=0.02, and groups of them: all, a family such as
    spectral, or lpf-sgd-study; see `steppe list measures`. The exit code is 1 where one
    was refused."""
    further: Annotated[tuple[Path, ...], tyro.conf.arg(name="and")] = ()
    """Further checkpoints of the same network: every measure of each, and of their
    differences to the first, with intervals over samples and draws."""
    start: Path | None = None
    """Weights at the start of the training, for measures that need them; the default is
    the initial checkpoint of the run, or the initial weights of its recipe."""
    other: Path | None = None
    """A second network, for measures of pairs: that of every checkpoint."""
    samples: int = Field(default=2000, ge=1)
    """Samples to measure on, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    mode: Mode = "eval"
    """The network as it predicts; the same with statistics of batch norm that are
    estimated again at every point; or as it trains, with those of each batch."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the random draws."""
    groups: int = Field(default=20, ge=2)
    """Groups of the samples, each left out once, with --and."""
    repeats: int = Field(default=8, ge=2)
    """Repeats with other random draws, with --and."""
    out: Path | None = None
    """Write the results to this file too: all of them as .json, or a row for each
    checkpoint and measure as .csv or .parquet."""
    group_passes: int = Field(default=2000, ge=1)
    """Groups leave out measures that cost more forward passes over the data than this,
    such as llc; one that is named itself is measured whatever it costs."""
    keep: Path = OUT
    """Folder where each finished measurement is kept, so that the same command goes on
    where it was stopped."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Measure and print; refused measures are named, and exit with 1."""
    from steppe_lab.analysis.measured import Measuring, compared, measured
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.reports.measures.files import check_file, record, write_measures
    from steppe_lab.runs.measure_groups import ungrouped
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
        check_file(args.out)
    _check_measures(args.measures)
    # The start of a run is known, that of another program's file is not.
    given = {"start": args.start or args.model is None, "other network": args.other}
    served = [need for need, by in given.items() if by]
    names = ungrouped(args.measures, served, args.group_passes)
    for sentence in names.left_out:
        say(sentence)
    paths: dict[str, Path] = {}
    for path in (args.checkpoint, *args.further):
        twice = f" ({len(paths) + 1})" if str(path) in paths else ""
        paths[f"{path}{twice}"] = checkpoint_at(path, OUT)
    with progress() as tell:
        asked = Measuring(
            paths,
            names.measures,
            part=args.part,
            samples=args.samples,
            mode=args.mode,
            seed=args.seed,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            loss=loss_kind(args),
            start=args.start and checkpoint_at(args.start, OUT),
            other=args.other and checkpoint_at(args.other, OUT),
            keep=args.keep,
            failed=say,
            long=say,
            report=in_tenths(tell),
        )
        if args.further:
            done = compared(asked, groups=args.groups, repeats=args.repeats)
        else:
            done = measured(asked)
    if args.out is not None:
        write_measures(args.out, done)
    (first, *_) = done.estimates.values()
    shown = done.comparisons or first
    if args.as_json:
        print(json_line(record(done)), file=results)
    else:
        page = console(results)
        # Refusals go to the other stream, as whole sentences.
        table = shown.table()
        if done.comparisons is None:
            count = len(table.notes) - len(first.refusals())
            table = dataclasses.replace(table, notes=table.notes[:count])
        page.print(str(table), markup=False, soft_wrap=True)
        # Measures of the weights alone have no terms.
        terms = [e.details["terms"] for e in first.values() if "terms" in e.details]
        if terms:
            over = f"Over {terms[0]} loss terms of {args.part} samples."
            page.print(over, markup=False)
        print_notes(page, done.notes)
    for sentence in (*done.before, *shown.refusals()):
        say(sentence)
    return 1 if shown.refusals() else 0


def _check_measures(measures: Iterable[str]) -> None:
    """Refuse a further checkpoint in the place of a measure.

    Raises:
        SettingError: a name of no measure that is one of a file or folder.
    """
    from steppe.errors import SettingError
    from steppe.measures import MEASURES
    from steppe_lab.runs.measure_groups import is_group

    for text in measures:
        known = is_group(text) or text.partition(":")[0] in MEASURES.names()
        if not known and Path(text.partition("@")[0]).exists():
            raise SettingError(
                f"measures come after one checkpoint, got {text} too; compare several "
                f"with --and {text}, or measure each by a command of its own."
            )
