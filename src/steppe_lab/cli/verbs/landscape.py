"""`steppe landscape`: the loss on a line, around a checkpoint or to another one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe.errors import SettingError
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
from steppe_lab.runs.settings import LineSettings


class Args(CheckpointArguments, LineSettings):
    """Arguments of `steppe landscape`."""

    example: ClassVar = "steppe landscape a.pt b.pt --model mine:build --data mine:load"

    other: Positional[Path | None] = None
    """A second checkpoint of the same network, where the line ends; none for a random
    line through the first. Planes are not there yet."""
    out: Path = OUT / "landscape.png"
    """PNG to write; the numbers go beside it, as .csv."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of sentences."""


def run(args: Args, results: TextIO) -> int:
    """Walk the line, draw it, say its ends."""
    from steppe_lab.analysis.pairs import walk
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.reports.line.files import publish_line, sentences
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    if args.out.suffix.lower() != ".png":
        raise SettingError(
            f"--out must be a picture that ends in .png, got {args.out}; the numbers "
            "go beside it, as .csv."
        )
    check_place(args.out)
    names = LineSettings.model_fields
    settings = LineSettings(**{name: getattr(args, name) for name in names})
    other = None if args.other is None else checkpoint_at(args.other, OUT)
    first = checkpoint_at(args.checkpoint, OUT)
    with progress() as tell:
        walked = walk(
            first,
            other,
            settings,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            loss=loss_kind(args),
            progress=counted(tell, "evaluating the line"),
        )
    surface = walked.value
    files = publish_line(surface, args.out, first, other)
    if args.as_json:
        record = {**surface.to_dict(), "notes": walked.notes}
        print(json_line({**record, "files": list(map(str, files))}), file=results)
        return 0
    page = console(results)
    for sentence in sentences(surface, first, other):
        page.print(sentence, markup=False)
    print_notes(page, walked.notes)
    for path in files:
        page.print(str(path), markup=False, soft_wrap=True)
    return 0
