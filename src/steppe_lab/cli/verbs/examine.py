"""`steppe examine`: everything about one checkpoint at a glance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro

from steppe.errors import SettingError
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
from steppe_lab.cli.progress import named, progress
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.runs.settings import ExaminationSettings


class Args(CheckpointArguments, ExaminationSettings):
    """Arguments of `steppe examine`."""

    example: ClassVar = "steppe examine net.pt --model mine:build --data mine:load"

    out: Path = OUT / "examination.html"
    """HTML page to write; the numbers go beside it, as .json."""
    keep: Path = OUT
    """Folder where finished parts are kept, so that the same command goes on where it
    was stopped."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Examine, write the page, print the table."""
    from steppe_lab.analysis.examination import examine_one
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.reports.examination.files import publish_examination
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    if args.out.suffix.lower() != ".html":
        raise SettingError(
            f"--out must be a page that ends in .html, got {args.out}; the numbers go "
            "beside it, as .json."
        )
    check_place(args.out)
    names = ExaminationSettings.model_fields
    settings = ExaminationSettings(**{name: getattr(args, name) for name in names})
    checkpoint = checkpoint_at(args.checkpoint, OUT)
    with progress() as tell:
        examined = examine_one(
            checkpoint,
            settings,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            loss=loss_kind(args),
            keep=args.keep,
            failed=say,
            progress=named(tell),
        )
    files = publish_examination(examined, args.out, args.data_dir)
    for sentence in examined.before:
        say(f"{sentence}.")
    if args.as_json:
        record = {**examined.result.to_dict(), "notes": examined.network.notes}
        print(json_line({**record, "files": list(map(str, files))}), file=results)
        return 0
    page = console(results)
    page.print(str(examined.result.table()), markup=False, soft_wrap=True)
    print_notes(page, examined.network.notes)
    for path in files:
        page.print(str(path), markup=False, soft_wrap=True)
    return 0
