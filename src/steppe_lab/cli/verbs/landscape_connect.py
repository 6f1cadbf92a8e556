"""`steppe landscape connect`: a curve of low loss between two networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TextIO

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
from steppe_lab.runs.connect_settings import ConnectSettings
from steppe_lab.runs.landscape_settings import PictureSettings

if TYPE_CHECKING:
    from steppe_lab.analysis.connecting import Connected


class Args(CheckpointArguments, ConnectSettings, PictureSettings):
    """Arguments of `steppe landscape connect`."""

    example: ClassVar = (
        "steppe landscape connect a.pt b.pt --model mine:build --data mine:load"
    )

    other: Positional[Path]
    """The second network, of the same structure and data."""
    out: tuple[Path, ...] = (OUT / "connect.png", OUT / "connect.csv")
    """Files to write, by their endings as of `steppe landscape`: a picture or page of
    the curve, the line and the plane; the numbers of the curve, or with --view plane of
    the plane; or .pt for the curve itself, its bends by name."""
    curve_file: Path | None = None
    """A .pt file of a curve between the same networks, which is drawn without a fit."""
    keep: Path = OUT
    """Folder where the fit and finished points are kept, so that the same command goes
    on where it was stopped, and other pictures of the same curve need no fit."""
    overwrite: bool = False
    """Replace a .h5, .nc, .npz or .pt file of another surface or curve, which is
    refused without it."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of sentences."""


def run(args: Args, results: TextIO) -> int:
    """Fit the curve, evaluate it, write and say it."""
    from steppe.landscapes.subspaces.curve_file import ENDING
    from steppe_lab.analysis.connecting import Asked, connected
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.reports.landscape.files import check_quantity, publish, targets
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    settings = part_of(args, ConnectSettings)
    pictures = part_of(args, PictureSettings)
    check_quantity(pictures.quantity, ())
    curves = [path for path in args.out if path.suffix.lower() == ENDING]
    others = [path for path in args.out if path not in curves]
    files = []
    if others or not curves:
        axes = 2 if settings.view == "plane" else 1
        both = settings.view == "both"
        files = targets(others, pictures, axes, beside_plane=both)
    places = [*curves, *(file.path for file in files)]
    for place in places:
        check_place(place)
    with progress() as tell:
        connection = connected(
            checkpoint_at(args.checkpoint, OUT),
            checkpoint_at(args.other, OUT),
            settings,
            Asked(
                device=args.device,
                trust=trusted(args.trust),
                belongs=belongs(args),
                loss=loss_kind(args),
                stored=args.curve_file,
                keep=args.keep,
                files=places,
                overwrite=args.overwrite,
                fitting=counted(tell, "fitting the curve"),
                evaluating=counted(tell, "evaluating the landscape"),
            ),
        )
    for file in curves:
        connection.curve.save(file, overwrite=True)
    publish(
        connection.surfaces,
        files,
        pictures,
        connection.directions,
        command=command_of(args, "landscape connect"),
    )
    written = list(map(str, places))
    if args.as_json:
        record = {
            "surfaces": {name: s.to_dict() for name, s in connection.surfaces.items()},
            "statistics": {n: vars(each) for n, each in connection.statistics.items()},
            "length": connection.length,
            "notes": connection.notes,
            "files": written,
        }
        print(json_line(record), file=results)
        return 0
    page = console(results)
    for sentence in _sentences(connection):
        page.print(sentence, markup=False)
    print_notes(page, connection.notes)
    for path in written:
        page.print(path, markup=False, soft_wrap=True)
    return 0


def _sentences(connection: Connected) -> list[str]:
    from steppe_lab.reports.text.numbers import number

    curve, line = connection.statistics["curve"], connection.statistics["line"]
    return [
        f"Along the curve the loss is at most {number(curve.maximum)}, and "
        f"{number(curve.arc_mean)} on average over its length; along the line at most "
        f"{number(line.maximum)}, and {number(line.arc_mean)}.",
        f"The curve is {connection.length:.3g} times as long as the line.",
    ]
