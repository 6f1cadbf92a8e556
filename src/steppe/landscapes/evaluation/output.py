"""Where a surface is written, and the folder of its points beside it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from steppe.errors import SettingError, StoreError, brief, check_switch
from steppe.surfaces import Surface
from steppe.surfaces.files.formats import WRITERS, check_target
from steppe.surfaces.files.hdf5 import check_h5py
from steppe.surfaces.files.points import BLOCKS, clear_points, has_points

POINTS = ".points"  # ending of the folder beside a file


@dataclass(frozen=True)
class Output:
    """A file for the whole surface, or none, and a folder for points as they finish."""

    file: Path | None
    folder: Path | None

    def part(self, name: str) -> Path | None:
        """The folder for points of further data, by their name."""
        return None if self.folder is None else self.folder / name

    def finish(self, surface: Surface) -> None:
        """Write the whole surface, if a file was asked for."""
        if self.file is not None:
            surface.save(self.file, overwrite=True)


def output_of(out: str | PathLike[str] | None, *, resume: bool) -> Output:
    """The places that `out` stands for.

    Args:
        out: a file in one of the formats of `Surface.save`, a folder, or None.
        resume: keep the points that are there; else they are removed.

    Raises:
        SettingError: an ending of no format, a folder of other things, or something
            else in the way.
        UsageError: the package of the format is not installed.
        StoreError: points cannot be removed.
    """
    check_switch("resume", resume)
    if out is None:
        return Output(None, None)
    output = _places(out)
    file, folder = output.file, output.folder
    assert folder is not None
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"{folder} is no folder; name another place as out.")
    _check_ours(folder)
    if resume and file is not None and file.exists() and not has_points(folder):
        raise SettingError(
            f"{file} exists and has no points beside it to go on from; name another "
            "file as out, or pass resume=False to replace it."
        )
    if not resume:
        inner = folder.iterdir() if folder.is_dir() else ()
        try:
            for each in [folder, *(path for path in inner if has_points(path))]:
                clear_points(each)
        except OSError as error:
            raise StoreError(
                f"cannot remove the points in {folder}: {error.strerror or error}; "
                "name another place as out."
            ) from error
    return output


def _check_ours(folder: Path) -> None:
    """Refuse a folder of other things, which points would be strewn among."""
    if not folder.is_dir() or has_points(folder):
        return
    others = sorted(
        each.name
        for each in folder.iterdir()
        if not each.name.startswith((".", BLOCKS)) and not has_points(each)
    )
    if others:
        raise SettingError(
            f"{folder} holds other things than points of a landscape, such as "
            f"{others[0]}; name a folder of its own in it, such as "
            f"{folder / 'landscape'}, or a file as out."
        )


def _places(out: Any) -> Output:
    try:
        path = Path(out)
    except TypeError as error:
        raise SettingError(
            f"out must be the path of a file or folder, got {brief(out)}."
        ) from error
    if path.is_dir() or not path.suffix:
        return Output(None, path)
    check_target(path, WRITERS)
    if path.suffix.lower() != ".npz":
        check_h5py()
    return Output(path, path.with_name(path.name + POINTS))
