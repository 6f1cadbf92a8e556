"""`steppe landscape convert`: a surface in files of other formats."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TextIO

from tyro.conf import Positional

from steppe.errors import SettingError
from steppe_lab.cli.again import command_of
from steppe_lab.cli.options import check_place, part_of
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console
from steppe_lab.runs.landscape_settings import PictureSettings


class Args(Arguments, PictureSettings):
    """Arguments of `steppe landscape convert`."""

    example: ClassVar = "steppe landscape convert surface.h5 surface.csv surface.npz"

    file: Positional[Path]
    """A surface that steppe or the published landscape code wrote."""
    targets: Positional[tuple[Path, ...]]
    """Files to write, by their endings as of --out of `steppe landscape`."""
    overwrite: bool = False
    """Replace a .h5, .nc or .npz file of another surface, which is refused without
    it."""


def run(args: Args, results: TextIO) -> int:
    """Read the surface, write the files."""
    from steppe.surfaces.files.convert import convert
    from steppe.surfaces.files.formats import WRITERS
    from steppe_lab.analysis.replacing import check_same_details
    from steppe_lab.reports.landscape.files import publish, targets
    from steppe_lab.reports.landscape.reading import read_surfaces

    surfaces = read_surfaces([args.file])
    (surface,) = surfaces.values()
    settings = part_of(args, PictureSettings)
    files = targets(args.targets, settings, len(surface.coordinates))
    for file in files:
        if file.path.resolve() == args.file.resolve():
            raise SettingError(f"{file.path} is the file that is read; name another.")
        check_place(file.path)
    if not args.overwrite:
        check_same_details([file.path for file in files], surface)
    whole = [file for file in files if file.path.suffix.lower() in WRITERS]
    for file in whole:  # with the directions of the file
        convert(args.file, file.path, overwrite=True)
    publish(
        surfaces,
        [file for file in files if file not in whole],
        settings,
        command=command_of(args, "landscape convert"),
    )
    page = console(results)
    for file in files:
        page.print(str(file.path), markup=False, soft_wrap=True)
    return 0
