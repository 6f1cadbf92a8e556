"""`steppe landscape project`: the path of a training on a surface from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TextIO

import tyro
from pydantic import Field
from tyro.conf import Positional

from steppe_lab.cli.again import command_of
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
from steppe_lab.cli.progress import counted, progress
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.runs.landscape_settings import PictureSettings


class Args(CheckpointArguments, PictureSettings):
    """Arguments of `steppe landscape project`."""

    example: ClassVar = (
        "steppe landscape project net.pt surface.h5 --checkpoints epoch1.pt epoch2.pt "
        "--model mine:build --data mine:load"
    )

    surface: Positional[Path]
    """A surface around the checkpoint, in a file with its directions."""
    checkpoints: tuple[Path, ...] = ()
    """Checkpoints of the training in their order: files, or the folder of a run with
    all that it kept."""
    data_samples: int = Field(default=10_000, ge=1)
    """Samples that the loss of each checkpoint is averaged over, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    out: tuple[Path, ...] = (OUT / "landscape.png",)
    """Files to write, by their endings as of `steppe landscape`, and .gif for a moving
    picture of the path; that of the surface itself gets the path beside it."""
    overwrite: bool = False
    """Replace a .h5, .nc or .npz file of another surface, which is refused without
    it."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Project the checkpoints, draw them, print them."""
    from steppe_lab.analysis.landscapes import projected
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.analysis.replacing import check_same_details
    from steppe_lab.analysis.single import read_network
    from steppe_lab.analysis.training_files import training_files
    from steppe_lab.reports.landscape.files import (
        ENDINGS,
        MOVING,
        OTHERS,
        publish,
        targets,
    )
    from steppe_lab.reports.landscape.reading import read_surfaces
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    (surface,) = read_surfaces([args.surface]).values()
    pictures = part_of(args, PictureSettings)
    endings = (*ENDINGS, MOVING, *OTHERS)
    files = targets(args.out, pictures, len(surface.coordinates), endings=endings)
    for file in files:
        check_place(file.path)
    if not args.overwrite:
        check_same_details([file.path for file in files], surface)
    along = training_files(args.checkpoints, OUT)
    network = read_network(
        checkpoint_at(args.checkpoint, OUT),
        part=args.part,
        samples=args.data_samples,
        device=args.device,
        trust=trusted(args.trust),
        belongs=belongs(args),
        loss=loss_kind(args),
    )
    with progress() as tell:
        path, directions = projected(
            surface, args.surface, network, along, counted(tell, "projecting")
        )
    publish(
        {"loss": surface.with_path(path)},
        files,
        pictures,
        directions,
        command=command_of(args, "landscape project"),
    )
    written = [str(file.path) for file in files]
    if args.as_json:
        print(json_line({**path.to_dict(), "files": written}), file=results)
        return 0
    page = console(results)
    page.print(str(path.table()), markup=False, soft_wrap=True)
    print_notes(page, network.notes)
    for name in written:
        page.print(name, markup=False, soft_wrap=True)
    return 0
