"""`steppe measure`: the flatness of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TextIO

import tyro
from pydantic import Field
from rich.table import Table
from tyro.conf import Positional

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
from steppe_lab.cli.progress import counted, progress
from steppe_lab.cli.streams import console, print_notes

if TYPE_CHECKING:
    from steppe.results import Estimate


class Args(CheckpointArguments):
    """Arguments of `steppe measure`."""

    example: ClassVar = "steppe measure steppe-runs/runs/ID trace lpf:sigma=0.02 --json"

    measures: Positional[tuple[str, ...]] = ("top_eigenvalue", "trace", "lpf")
    """Measures, such as lpf:sigma=0.02; see `steppe list`."""
    samples: int = Field(default=2000, ge=1)
    """Samples to measure on, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the random draws."""
    against: Path | None = None
    """A second checkpoint of the same network: every measure of both and of their
    difference, with intervals over samples and draws."""
    groups: int = Field(default=20, ge=2)
    """Groups of the samples, each left out once, with --against."""
    repeats: int = Field(default=8, ge=2)
    """Repeats with other random draws, with --against."""
    out: Path | None = None
    """Write the results as JSON to this file too."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Measure and print; refused measures are named, and exit with 1."""
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.analysis.single import measure_one
    from steppe_lab.store.json_files import json_line, write_json
    from steppe_lab.store.records import estimate_record

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
    _check_measures(args.measures)
    if args.against is not None:
        return _compare(args, args.against, results)
    measured = measure_one(
        checkpoint_at(args.checkpoint, OUT),
        args.measures,
        part=args.part,
        samples=args.samples,
        seed=args.seed,
        device=args.device,
        trust=trusted(args.trust),
        belongs=belongs(args),
        loss=loss_kind(args),
    )
    estimates = measured.value
    records = {
        name: {**estimate_record(estimate), "notes": measured.notes}
        for name, estimate in estimates.items()
    }
    if args.out is not None:
        write_json(args.out, records)
    lacks = {name: e.refusal for name, e in estimates.items() if e.refusal}
    if args.as_json:
        print(json_line(records), file=results)
    else:
        _show(args, estimates, results)
        print_notes(console(results), measured.notes)
    for name, refusal in lacks.items():
        say(f"{name} was not measured: {refusal}")
    return 1 if lacks else 0


def _check_measures(measures: Iterable[str]) -> None:
    """Refuse a second checkpoint in the place of a measure.

    Raises:
        SettingError: a name of no measure that is one of a file or folder.
    """
    from steppe.errors import SettingError
    from steppe.measures import MEASURES

    for text in measures:
        known = text.partition(":")[0] in MEASURES.names()
        if not known and Path(text.partition("@")[0]).exists():
            raise SettingError(
                f"`steppe measure` takes one checkpoint, got {text} too; compare two "
                f"with --against {text}, or measure each by a command of its own."
            )


def _compare(args: Args, other: Path, results: TextIO) -> int:
    from steppe_lab.analysis.pairs import compare_two
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.store.json_files import json_line, write_json

    with progress() as tell:
        compared = compare_two(
            (checkpoint_at(args.checkpoint, OUT), checkpoint_at(other, OUT)),
            args.measures,
            part=args.part,
            samples=args.samples,
            groups=args.groups,
            repeats=args.repeats,
            seed=args.seed,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            loss=loss_kind(args),
            progress=counted(tell, "measuring both"),
        )
    comparison = compared.value
    record = {**comparison.to_dict(), "notes": compared.notes}
    if args.out is not None:
        write_json(args.out, record)
    if args.as_json:
        print(json_line(record), file=results)
    else:
        page = console(results)
        page.print(str(comparison), markup=False, soft_wrap=True)
        print_notes(page, compared.notes)
    lacks = {name: one.refusal for name, one in comparison.items() if one.refusal}
    for name, refusal in lacks.items():
        say(f"{name} was not compared: {refusal}")
    return 1 if lacks else 0


def _show(args: Args, estimates: Mapping[str, Estimate], results: TextIO) -> None:
    from steppe.measures import MEASURES

    table = Table("measure", "value", "standard error", "unit", "samples")
    given = {name: e for name, e in estimates.items() if not e.refusal}
    for name, estimate in given.items():
        value = f"{estimate.value:.5g}" + ("" if estimate.converged else " (?)")
        error = f"{estimate.stderr:.2g}" if estimate.samples else "none drawn"
        unit = MEASURES[MEASURES.parse(name).name].spec.units
        table.add_row(name, value, error, unit, str(estimate.samples))
    page = console(results)
    page.print(table)
    terms = next(iter(given.values())).details["terms"]
    page.print(f"Over {terms} loss terms of {args.part} samples.", markup=False)
    if not all(estimate.converged for estimate in given.values()):
        page.print("(?) did not reach its accuracy; raise its budget.", markup=False)
