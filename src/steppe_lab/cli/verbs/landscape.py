"""`steppe landscape`: the loss around a checkpoint, or through two or three."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TextIO

import tyro
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
from steppe_lab.runs.landscape_settings import LandscapeSettings, PictureSettings


class Args(CheckpointArguments, LandscapeSettings, PictureSettings):
    """Arguments of `steppe landscape`."""

    example: ClassVar = "steppe landscape net.pt --model mine:build --data mine:load"

    other: Positional[Path | None] = None
    """A second checkpoint of the same network, where the first axis leads."""
    third: Positional[Path | None] = None
    """A third one, where the second axis leads."""
    out: tuple[Path, ...] = (OUT / "landscape.png", OUT / "landscape.csv")
    """Files to write, by their endings: .png pictures; .html a page where the surface
    turns; .h5, .nc or .npz all of the
    surface; .csv, .json or .vtp its values for other programs."""
    names: Literal["plain", "reference"] = "plain"
    """Names of files where flags of the published landscape code are given: short ones
    in steppe-runs, or those of that code."""
    keep: Path = OUT
    """Folder where finished points are kept, so that the same command goes on where it
    was stopped, and other grids of the same axes have them."""
    overwrite: bool = False
    """Replace a .h5, .nc or .npz file of other networks, data or settings, which is
    refused without it; files of other kinds are replaced anyway."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of sentences."""

    @classmethod
    def understood(cls, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Flags of the published landscape code as options."""
        from steppe_lab.cli.reference_flags import translated

        return translated(arguments)


def run(args: Args, results: TextIO) -> int:
    """Evaluate the loss, write it, say it."""
    from steppe_lab.analysis.landscapes import landscape_of
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.reports.landscape.files import check_quantity, publish, targets
    from steppe_lab.reports.landscape.sentences import sentences, warnings
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    settings = part_of(args, LandscapeSettings)
    pictures = part_of(args, PictureSettings)
    given = [args.checkpoint, args.other, args.third]
    networks = [checkpoint_at(path, OUT) for path in given if path is not None]
    _, dims = settings.subspace(len(networks))
    published = args.names == "reference"
    evaluated_too = ["test_loss"] if settings.also_test else []
    evaluated_too += [f"test_{n}" for n in settings.quantities if evaluated_too]
    check_quantity(pictures.quantity, [*settings.quantities, *evaluated_too])
    files = targets(args.out, pictures, dims, published=published)
    for file in files:
        check_place(file.path)
    with progress() as tell:
        evaluated = landscape_of(
            networks,
            settings,
            OUT,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            loss=loss_kind(args),
            keep=args.keep,
            files=[file.path for file in files],
            overwrite=args.overwrite,
            progress=counted(tell, "evaluating the landscape"),
        )
    surface = evaluated.surface
    publish(
        {"loss": surface},
        files,
        pictures,
        evaluated.directions,
        command=command_of(args, "landscape"),
    )
    notes = (*evaluated.notes, *warnings(surface, networks))
    if args.as_json:
        record = {**surface.to_dict(), "notes": notes}
        print(
            json_line({**record, "files": [str(file.path) for file in files]}),
            file=results,
        )
        return 0
    page = console(results)
    for sentence in sentences(surface, networks, evaluated.base):
        page.print(sentence, markup=False)
    if args.checkpoints:
        page.print(str(surface.paths[-1].table()), markup=False, soft_wrap=True)
    print_notes(page, notes)
    for file in files:
        page.print(str(file.path), markup=False, soft_wrap=True)
    return 0
