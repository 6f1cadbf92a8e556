"""`steppe landscape barriers`: the rise of the loss between every two networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TextIO

import tyro
from pydantic import Field
from tyro.conf import Positional

from steppe.errors import SettingError
from steppe_lab.cli.messages import say
from steppe_lab.cli.options import (
    OUT,
    CheckpointArguments,
    belongs,
    check_place,
    loss_kind,
    part_of,
    trusted,
    use_data_dir,
)
from steppe_lab.cli.progress import progress
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.runs.barrier_settings import BarrierSettings

if TYPE_CHECKING:
    from steppe.results import Barriers


class Args(CheckpointArguments, BarrierSettings):
    """Arguments of `steppe landscape barriers`."""

    example: ClassVar = (
        "steppe landscape barriers a.pt b.pt c.pt --model mine:build --data mine:load"
    )

    others: Positional[tuple[Path, ...]] = ()
    """Further networks of the same structure and data. A store among them stands for
    all of its finished trainings."""
    threshold: float | None = Field(default=None, ge=0)
    """The highest barrier within a basin: says which networks share one, and draws a
    line there."""
    out: Path = OUT / "barriers.png"
    """Picture to write, which ends in .png."""
    keep: Path = OUT
    """Folder where finished barriers are kept, so that the same command goes on."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Measure the barriers, draw them, print them."""
    from steppe import plots
    from steppe_lab.analysis.barriers import Asked, barriers_between, checkpoints_at
    from steppe_lab.store.json_files import json_line, write_atomically

    use_data_dir(args.data_dir)
    if args.out.suffix.lower() != ".png":
        raise SettingError(
            f"--out must be a picture that ends in .png, got {args.out}."
        )
    check_place(args.out)
    with progress() as tell:
        measured = barriers_between(
            Asked(
                checkpoints_at([args.checkpoint, *args.others], OUT),
                part_of(args, BarrierSettings),
                device=args.device,
                trust=trusted(args.trust),
                belongs=belongs(args),
                loss=loss_kind(args),
                keep=args.keep,
                failed=say,
                report=tell,
            )
        )
    figure = plots.barriers(measured.value, threshold=args.threshold)
    write_atomically(args.out, plots.save_png(figure))
    if args.as_json:
        record = {**measured.value.to_dict(), "notes": measured.notes}
        if args.threshold is not None:
            record["basins"] = _basins(measured.value, args.threshold)
        print(json_line({**record, "files": [str(args.out)]}), file=results)
        return 0
    page = console(results)
    page.print(str(measured.value.table()), markup=False, soft_wrap=True)
    if args.threshold is not None:
        for path, groups in _basins(measured.value, args.threshold).items():
            shown = "; ".join(", ".join(group) for group in groups)
            page.print(
                f"Basins by barriers up to {args.threshold:g}, {path}: {shown}.",
                markup=False,
                soft_wrap=True,
            )
    print_notes(page, measured.notes)
    page.print(str(args.out), markup=False, soft_wrap=True)
    return 0


def _basins(result: Barriers, threshold: float) -> dict[str, list[tuple[str, ...]]]:
    """Networks of each basin, by path."""
    return {path: result.clusters(threshold, path) for path in result.paths}
