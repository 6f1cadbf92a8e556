"""`steppe landscape plot`: surfaces from their files as pictures, on one scale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe.errors import SettingError
from steppe_lab.cli.again import command_of
from steppe_lab.cli.options import OUT, check_place, part_of
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console
from steppe_lab.runs.landscape_settings import PictureSettings


class Args(Arguments, PictureSettings):
    """Arguments of `steppe landscape plot`."""

    example: ClassVar = "steppe landscape plot sgd.h5 sam.h5 --pictures surface"

    files: Positional[tuple[Path, ...]]
    """Files of surfaces that steppe or the published landscape code wrote; several
    stand side by side on one scale."""
    titles: tuple[str, ...] = ()
    """Names of the surfaces in figures, one for each file; the default is those of the
    files."""
    paths: tuple[Path, ...] = ()
    """Files of projected checkpoints, whose paths are drawn on all surfaces."""
    out: tuple[Path, ...] = (OUT / "landscape.png",)
    """Figures to write: .png pictures; .html a page where the surfaces turn; .gif the
    first of --pictures in motion, with a frame for each surface, or for each checkpoint
    on a single one."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of sentences."""

    @classmethod
    def understood(cls, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Flags of the published landscape code as options."""
        from steppe_lab.cli.reference_flags import translated_plot

        return translated_plot(arguments)


def run(args: Args, results: TextIO) -> int:
    """Read the surfaces, draw them, say their ranges."""
    from steppe_lab.reports.landscape.files import ENDINGS, MOVING, publish, targets
    from steppe_lab.reports.landscape.reading import read_surfaces
    from steppe_lab.reports.landscape.sentences import range_of
    from steppe_lab.store.json_files import json_line

    surfaces = read_surfaces(args.files, args.paths)
    if args.titles:
        if len(set(args.titles)) != len(surfaces):
            raise SettingError(
                f"--titles must be {len(surfaces)} different names, one for each file, "
                f"got {' '.join(args.titles)}."
            )
        surfaces = dict(zip(args.titles, surfaces.values(), strict=True))
    axes = len(next(iter(surfaces.values())).coordinates)
    settings = part_of(args, PictureSettings)
    files = targets(args.out, settings, axes, endings=(*ENDINGS, MOVING))
    for file in files:
        check_place(file.path)
    publish(surfaces, files, settings, command=command_of(args, "landscape plot"))
    written = [str(file.path) for file in files]
    if args.as_json:
        shown = {name: surface.to_dict() for name, surface in surfaces.items()}
        print(json_line({"surfaces": shown, "files": written}), file=results)
        return 0
    page = console(results)
    for name, surface in surfaces.items():
        page.print(f"{name}: {range_of(surface)}", markup=False)
    for path in written:
        page.print(path, markup=False, soft_wrap=True)
    return 0
