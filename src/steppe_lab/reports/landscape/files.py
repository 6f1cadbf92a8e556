"""Files of landscapes: pictures and numbers, by the endings of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import SettingError
from steppe.pages.surfaces.page import check_plotly, render
from steppe.plots.planes.scale import check_scale
from steppe.plots.planes.values import ENDS, RATIO
from steppe.surfaces import Surface
from steppe.surfaces.files.convert import EXPORTS
from steppe.surfaces.files.directions import Directions
from steppe.surfaces.files.formats import WRITERS
from steppe.surfaces.files.hdf5 import check_h5py
from steppe_lab.reports.landscape.pictures import (
    CONNECTION,
    animated,
    by_axes,
    drawn,
)
from steppe_lab.runs.landscape_settings import PictureSettings
from steppe_lab.store.json_files import cannot, write_atomically

LINE = "line"  # the picture of a surface of one axis
PICTURE = ".png"
PAGE = ".html"
MOVING = ".gif"
ENDINGS = (PICTURE, PAGE)  # of figures
MESH = ".vtp"
HDF5 = (".h5", ".hdf5", ".nc")
OTHERS = (*WRITERS, *EXPORTS)  # of numbers
PLANES = {PAGE: "a page", MOVING: "a moving picture", MESH: "a VTP file"}
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
    beside_plane: bool = False,
    endings: Sequence[str] = (*ENDINGS, *OTHERS),
) -> list[Target]:
    """The files that a command writes.

    Args:
        paths: as they are asked for; that of a picture stands for one of each kind.
        settings: of the pictures.
        axes: of the surface, 1 or 2.
        published: whether pictures have the names of the published landscape code.
        beside_plane: whether lines are drawn beside a plane, in one picture or page.
        endings: that are allowed.

    Raises:
        SettingError: no path, one with an unknown ending or that a line cannot have,
            the same one twice, or a scale that is none.
        UsageError: the package of a format is not installed.
    """
    check_scale(settings.log or None, settings.vmin, settings.vmax, settings.vlevel)
    wanted: list[Target] = []
    for path in paths:
        ending = path.suffix.lower()
        if ending not in endings:
            raise SettingError(
                f"files to write must end in {' or '.join(endings)}, got {path}; "
                "checkpoints come before options."
            )
        if ending in PLANES and axes == 1 and not (beside_plane and ending == PAGE):
            raise SettingError(
                f"{PLANES[ending]} is of a plane, got {path} for a line; write a .png "
                "or .csv of it."
            )
        _check_package(ending)
        if ending != PICTURE:
            wanted.append(Target(path))
            continue
        if axes == 1 and settings.pictures != PictureSettings().pictures:
            raise SettingError(
                "a line has one kind of picture, got --pictures "
                f"{' '.join(settings.pictures)}; leave it out."
            )
        one = CONNECTION if beside_plane else LINE
        kinds = (one,) if axes == 1 else settings.pictures
        for kind in kinds:
            word = f"-{kind}" if len(kinds) > 1 else ""
            word = PUBLISHED[kind] if published else word
            wanted.append(Target(path.with_name(f"{path.stem}{word}{PICTURE}"), kind))
    if not wanted or len({target.path for target in wanted}) < len(wanted):
        raise SettingError("name every file to write once, and at least one.")
    return wanted


def check_quantity(quantity: str, evaluated: Sequence[str]) -> None:
    """Refuse to draw a quantity that will not be evaluated.

    Args:
        quantity: to draw.
        evaluated: quantities beside the loss, by the names that ask for them.

    Raises:
        SettingError: it is none of them.
    """
    if {"class_losses", "loss_terms"}.intersection(evaluated):
        return  # their names follow from the data
    known = ["loss", "rise", "stderr", "rise_stderr", *evaluated]
    known += [f"{name}_stderr" for name in evaluated]
    if set(ENDS) <= set(evaluated):
        known.append(RATIO)
    if quantity not in known:
        raise SettingError(
            f"--quantity {quantity} is not evaluated; name it in --quantities too, or "
            "give loss, rise or stderr."
        )


def _check_package(ending: str) -> None:
    if ending == PAGE:
        check_plotly()
    elif ending in HDF5:
        check_h5py()


def publish(
    surfaces: Mapping[str, Surface],
    files: Sequence[Target],
    settings: PictureSettings,
    directions: Directions | None = None,
    *,
    command: str,
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
            lines, planes = by_axes(surfaces)
            named = {"": next(iter(planes.values()))} if len(planes) == 1 else planes
            page = render(named, title="", command=command, lines=lines)
            write_atomically(target.path, page)
            continue
        if ending == MOVING:
            write_atomically(target.path, animated(surfaces, settings))
            continue
        surface = next(iter(surfaces.values()))
        try:
            if ending in EXPORTS:
                EXPORTS[ending](surface, target.path)
            else:
                surface.save(target.path, directions, overwrite=True)
        except OSError as error:
            raise cannot("write", target.path, error) from error
