"""Files of landscapes: pictures and numbers, by the endings of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import SettingError
from steppe.pages.surfaces.page import render
from steppe.surfaces import Surface
from steppe.surfaces.files.convert import EXPORTS
from steppe.surfaces.files.directions import Directions
from steppe.surfaces.files.formats import WRITERS
from steppe_lab.reports.landscape.pictures import drawn
from steppe_lab.runs.landscape_settings import PictureSettings
from steppe_lab.store.json_files import cannot, write_atomically

LINE = "line"  # the picture of a surface of one axis
PICTURE = ".png"
PAGE = ".html"
ENDINGS = (PICTURE, PAGE)  # of figures
# Words before the ending of a picture, in the published landscape code.
PUBLISHED = {
    "contour": "_train_loss_2dcontour",
    "contourf": "_train_loss_2dcontourf",
    "heat": "_train_loss_2dheat",
    "surface": "_train_loss_3dsurface",
    LINE: "_1d_train_loss",
}


@dataclass(frozen=True)
class Target:
    """A file to write."""

    path: Path
    picture: str = ""  # its kind, where the file is one


def targets(
    paths: Sequence[Path],
    settings: PictureSettings,
    axes: int,
    *,
    published: bool = False,
    endings: Sequence[str] | None = None,
) -> list[Target]:
    """The files that a command writes.

    Args:
        paths: as they are asked for; that of a picture stands for one of each kind.
        settings: of the pictures.
        axes: of the surface, 1 or 2.
        published: whether pictures have the names of the published landscape code.
        endings: that are allowed; None for all.

    Raises:
        SettingError: no path, one with an unknown ending, or the same one twice.
    """
    known = list(endings or (*ENDINGS, *WRITERS, *EXPORTS))
    wanted: list[Target] = []
    for path in paths:
        if path.suffix.lower() not in known:
            raise SettingError(
                f"files to write must end in {' or '.join(known)}, got {path}; "
                "checkpoints come before options."
            )
        if path.suffix.lower() == PAGE and axes == 1:
            raise SettingError(
                f"a page is of a plane, got {path} for a line; write a .png of it."
            )
        if path.suffix.lower() != PICTURE:
            wanted.append(Target(path))
            continue
        kinds = (LINE,) if axes == 1 else settings.pictures
        for kind in kinds:
            word = f"-{kind}" if len(kinds) > 1 else ""
            word = PUBLISHED[kind] if published else word
            wanted.append(Target(path.with_name(f"{path.stem}{word}{PICTURE}"), kind))
    if not wanted or len({target.path for target in wanted}) < len(wanted):
        raise SettingError("name every file to write once, and at least one.")
    return wanted


def publish(
    surfaces: Mapping[str, Surface],
    files: Sequence[Target],
    settings: PictureSettings,
    directions: Directions | None = None,
    command: str = "steppe landscape",
) -> None:
    """Write surfaces into files: all into each picture, the first into others.

    Args:
        surfaces: by name.
        files: to write.
        settings: of the pictures.
        directions: of the first surface.
        command: that makes them again, for pages.

    Raises:
        SettingError: a picture of a quantity that the surfaces lack.
        StoreError: of the system, where a file cannot be written.
    """
    for target in files:
        if target.picture:
            content = drawn(surfaces, target.picture, settings)
            write_atomically(target.path, content)
            continue
        ending = target.path.suffix.lower()
        if ending == PAGE:
            named = (
                surfaces if len(surfaces) > 1 else {"": next(iter(surfaces.values()))}
            )
            write_atomically(target.path, render(named, title="", command=command))
            continue
        surface = next(iter(surfaces.values()))
        try:
            if ending in EXPORTS:
                EXPORTS[ending](surface, target.path)
            else:
                surface.save(target.path, directions, overwrite=True)
        except OSError as error:
            raise cannot("write", target.path, error) from error
