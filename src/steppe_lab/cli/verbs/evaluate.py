"""`steppe evaluate`: loss and metrics of checkpoints on all their samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TextIO

import tyro
from rich.table import Table
from tyro.conf import Positional

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

    more: Positional[tuple[Path, ...]] = ()
    """Further checkpoints, scored alike."""
    out: Path | None = None
    """Write the scores as JSON to this file too."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object for each checkpoint instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Score and print."""
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.analysis.single import evaluate_one
    from steppe_lab.store.json_files import json_line, write_json

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
    # All are looked for before the first takes its time.
    paths = [checkpoint_at(path, OUT) for path in (args.checkpoint, *args.more)]
    evaluated = [
        evaluate_one(
            path,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
        )
        for path in paths
    ]
    rows = [each.value for each in evaluated]
    records: list[dict[str, Any]] = [
        {**({"checkpoint": str(path)} if args.more else {}), **each.value}
        | {"notes": each.notes}
        for path, each in zip(paths, evaluated, strict=True)
    ]
    if args.out is not None:
        write_json(args.out, records if args.more else records[0])
    if args.as_json:
        for record in records:
            print(json_line(record), file=results)
        return 0
    page = console(results)
    page.print(_tables(paths, rows) if args.more else _table(rows[0]))
    print_notes(page, tuple(dict.fromkeys(n for each in evaluated for n in each.notes)))
    return 0


def _tables(paths: Sequence[Path], rows: Sequence[Mapping[str, float]]) -> Table:
    """A column for each checkpoint, with the scores that all of them have."""
    from steppe_lab.reports.text.numbers import with_error

    table = Table("± standard error")
    # Checkpoints of one run differ in their names alone.
    alone = len({path.stem for path in paths}) == len(paths)
    for path in paths:
        table.add_column(path.stem if alone else str(Path(*path.parts[-3:])))
    for name in [n for n in rows[0] if all(f"{n}_stderr" in row for row in rows)]:
        cells = [with_error(row[name], row[f"{name}_stderr"]) for row in rows]
        table.add_row(name.replace("_", " "), *cells)
    return table


def _table(scores: Mapping[str, float]) -> Table:
    """A row for each score: the number of the pages, its error, by part."""
    from steppe_lab.analysis.single import ALL_PARTS
    from steppe_lab.reports.text.numbers import with_error

    parts = [part for part in ALL_PARTS if f"{part}_samples" in scores]
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
