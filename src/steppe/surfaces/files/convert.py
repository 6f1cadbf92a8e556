"""Files of surfaces in another format."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from steppe.errors import DataError
from steppe.surfaces.files.directions import directions_within
from steppe.surfaces.files.formats import WRITERS, check_target
from steppe.surfaces.files.points import has_points
from steppe.surfaces.files.surface_file import load_surface, save_surface
from steppe.surfaces.files.text import save_csv, save_json
from steppe.surfaces.files.vtp import save_vtp
from steppe.surfaces.surface import Surface

EXPORTS: dict[str, Callable[[Surface, Path], None]] = {
    ".csv": save_csv,
    ".json": save_json,
    ".vtp": save_vtp,
}


def convert(
    source: str | PathLike[str], target: str | PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a surface in the format of another ending.

    Args:
        source: a file of `Surface.save`, or of the published code of Li et al., 2018,
            arXiv:1712.09913; or a folder of points that `landscape` writes.
        target: with the ending .h5, .hdf5, .nc or .npz, which hold all that the source
            does; .csv, .json or .vtp for other programs, which hold its values.
        overwrite: replace a target that exists.

    Raises:
        DataError: no such source, none with a surface, or a target that exists.
        SettingError: another ending, or a surface that the format cannot hold.
        UsageError: the package of a format is not installed.
        OSError: no space, or no right to write.
    """
    place = Path(target)
    check_target(place, [*WRITERS, *EXPORTS])
    if place.exists() and not overwrite:
        raise DataError(
            f"{place} exists; name another file, or pass overwrite=True to replace it."
        )
    surface = load_surface(source)
    ending = place.suffix.lower()
    if ending in EXPORTS:
        EXPORTS[ending](surface, place)
    else:
        # A folder of points has no directions.
        beside = None if has_points(Path(source)) else directions_within(source)
        save_surface(surface, place, beside, overwrite=True)
