"""`steppe evaluate`: loss and metrics of a checkpoint on all its samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from rich.table import Table

from steppe_lab.cli.options import (
    OUT,
    CheckpointArguments,
    belongs,
    check_place,
    trusted,
    use_data_dir,
)
from steppe_lab.cli.streams import console, print_notes


class Args(CheckpointArguments):
    """Arguments of `steppe evaluate`."""

    example: ClassVar = "steppe evaluate steppe-runs/runs/ID --out scores.json"

    out: Path | None = None
    """Write the scores as JSON to this file too."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Score and print."""
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.analysis.single import evaluate_one
    from steppe_lab.store.json_files import json_line, write_json

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
    evaluated = evaluate_one(
        checkpoint_at(args.checkpoint, OUT),
        device=args.device,
        trust=trusted(args.trust),
        belongs=belongs(args),
    )
    scores = evaluated.value
    if args.out is not None:
        write_json(args.out, scores)
    if args.as_json:
        print(json_line(scores), file=results)
        return 0
    page = console(results)
    page.print(_table(scores))
    print_notes(page, evaluated.notes)
    return 0


def _table(scores: Mapping[str, float]) -> Table:
    """A row for each score: the number of the pages, its error, by part."""
    from steppe_lab.reports.text.numbers import with_error

    parts = [part for part in ("train", "test") if f"{part}_samples" in scores]
    names = [name.removeprefix(f"{parts[0]}_") for name in scores]
    table = Table("± standard error", *parts)
    for name in names:
        if f"{parts[0]}_{name}_stderr" in scores:
            keys = [f"{part}_{name}" for part in parts]
            # Only training samples have groups that are scored apart.
            cells = [
                with_error(scores[k], scores[f"{k}_stderr"]) if k in scores else ""
                for k in keys
            ]
            table.add_row(name, *cells)
    table.add_row("samples", *(f"{scores[f'{part}_samples']:,}" for part in parts))
    return table
