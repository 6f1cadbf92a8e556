"""Formats by the endings of names, and files by their first bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from steppe.errors import DataError, SettingError
from steppe.files import replace_file
from steppe.surfaces.files import hdf5, npz
from steppe.surfaces.files.stored import FORMAT, Stored, Wanted

WRITERS: dict[str, Callable[[Stored], bytes]] = {
    ".h5": hdf5.hdf5_content,
    ".hdf5": hdf5.hdf5_content,
    ".nc": hdf5.hdf5_content,
    ".npz": npz.npz_content,
}


def is_direction(name: str) -> bool:
    """Whether an array is a tensor of a direction, which surfaces go without."""
    return name.partition("/")[0].endswith("direction") and "/" in name


def no_direction(name: str) -> bool:
    """Whether an array belongs to the surface itself."""
    return not is_direction(name)


def write_stored(path: Path, stored: Stored) -> None:
    """Write a file whole or not at all, in the format of its ending.

    Raises:
        SettingError: an ending of no format, or a folder.
        UsageError: the package of the format is not installed.
        OSError: no space, or no right to write.
    """
    check_target(path, WRITERS)
    replace_file(path, WRITERS[path.suffix.lower()](stored))


def check_target(path: Path, endings: Collection[str]) -> None:
    """Refuse a name whose ending is none of some, and a folder."""
    if path.suffix.lower() not in endings:
        *first, last = endings
        raise SettingError(
            f"the name of the file must end in {', '.join(first)} or {last}, got "
            f"{path.name!r}."
        )
    if path.is_dir():
        raise SettingError(f"{path} is a folder; name a file to write.")


def read_stored(path: Path, wanted: Wanted) -> Stored:
    """Arrays and attributes of a file, whose format its first bytes tell.

    Args:
        path: of the file.
        wanted: whether to read an array, by name.

    Raises:
        DataError: no such file, none of these formats, damaged, or of a later format.
        UsageError: the package of the format is not installed.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a file.")
    if not path.exists():
        raise DataError(f"there is no file {path}; name one that exists.")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(npz.SIGNATURE):
        stored = npz.read_npz(path, wanted)
    elif start == hdf5.SIGNATURE:
        stored = hdf5.read_hdf5(path, wanted)
    else:
        classic = start.startswith(hdf5.CLASSIC)
        kind = "netCDF of before version 4" if classic else "neither HDF5 nor npz"
        raise DataError(
            f"{path} is {kind}; name a file that Surface.save or the published code "
            "of Li et al. wrote."
        )
    name = stored.attributes.get("format", FORMAT)
    if name != FORMAT:
        raise DataError(
            f"{path} has the format {name!r} and this version of steppe reads "
            f"{FORMAT!r}; read it with the version that wrote it."
        )
    return stored
