"""HDF5 files that are netCDF-4 files too.

A dimension with coordinates is a one-dimensional array of its own name; one without is
an array that only names it (netCDF-4 user's guide, "NetCDF-4 format", dimensions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steppe.errors import DataError, UsageError, install
from steppe.surfaces.files.stored import (
    DAMAGE,
    Array,
    Attribute,
    Stored,
    Variable,
    Wanted,
    reason,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
CLASSIC = b"CDF"  # of netCDF before version 4
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable.{:10d}"


def hdf5_content(stored: Stored) -> bytes:
    """The bytes of a file; equal arrays and attributes give equal bytes.

    Raises:
        UsageError: h5py is not installed.
    """
    h5py = _h5py()
    # In memory, since a file is written whole or not at all; in the layout of HDF5 1.8,
    # whose checksums let h5py refuse damaged bytes that crash it in the one before.
    layout = {"driver": "core", "backing_store": False, "libver": ("v108", "v108")}
    with h5py.File("surface.h5", "w", track_order=True, **layout) as file:
        file.attrs.update(stored.attributes)
        for name, variable in stored.variables.items():
            dataset = file.create_dataset(
                name, data=variable.values, fletcher32=_wants_checksum(variable)
            )
            if variable.fill is not None:
                fill = np.array([variable.fill], dtype=variable.values.dtype)
                dataset.attrs["_FillValue"] = fill
            dataset.attrs.update(variable.attributes)
        _name_dimensions(file, stored.variables)
        file.flush()
        content: bytes = file.id.get_file_image()
    return content


def read_hdf5(path: Path, wanted: Wanted) -> Stored:
    """Arrays and attributes of a file, also of one that steppe did not write.

    Args:
        path: of the file. It is not locked, since a writer replaces it as a whole.
        wanted: whether to read an array, by name.

    Raises:
        DataError: no HDF5, or damaged.
        UsageError: h5py is not installed.
    """
    h5py = _h5py()
    try:
        # By Python's own file: HDF5 locks, and refuses what this process has open.
        with path.open("rb") as raw, h5py.File(raw, "r") as file:
            names: list[str] = []
            file.visititems(_collector(names, h5py.Dataset))
            variables = {
                name: _variable(file[name])
                for name in names
                if wanted(name) and not _names_dimension(file[name])
            }
            return Stored(variables, _attributes(file.attrs))
    except DAMAGE as error:
        raise DataError(
            f"{path} is damaged and cannot be read as HDF5 ({reason(error)}); "
            "write it again."
        ) from error


def check_h5py() -> None:
    """Refuse to begin work whose result could not be written.

    Raises:
        UsageError: h5py is not installed.
    """
    _h5py()


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise UsageError(
            "HDF5 files need h5py, which is not installed; "
            f"{install('landscapes')}, or give the file the ending .npz."
        ) from None
    return h5py


def _wants_checksum(variable: Variable) -> bool:
    """Whether changed bytes would pass unseen; directions have a digest of all."""
    return bool(variable.dims) and variable.values.size > 0


def _name_dimensions(file: Any, variables: Mapping[str, Variable]) -> None:
    lengths: dict[str, int] = {}
    for variable in variables.values():
        lengths |= zip(variable.dims, variable.values.shape)
    for number, (dim, length) in enumerate(lengths.items()):
        if dim in variables:
            file[dim].make_scale(dim)
        else:
            scale = file.create_dataset(dim, shape=(length,), dtype=">f4")
            scale.make_scale(NO_VARIABLE.format(length))
        file[dim].attrs["_Netcdf4Dimid"] = np.int32(number)
    for name, variable in variables.items():
        if variable.dims != (name,):
            for axis, dim in enumerate(variable.dims):
                file[name].dims[axis].attach_scale(file[dim])


def _collector(names: list[str], kind: type) -> Callable[[str, Any], None]:
    def collect(name: str, entry: Any) -> None:
        if isinstance(entry, kind):
            names.append(name)

    return collect


def _names_dimension(dataset: Any) -> bool:
    """Whether an array only names a dimension."""
    name = dataset.attrs.get("NAME", b"")
    return isinstance(name, bytes) and name.startswith(NO_VARIABLE[:20].encode())


def _variable(dataset: Any) -> Variable:
    attributes = _attributes(dataset.attrs)
    fill = attributes.pop("_FillValue", None)
    scales = [list(dimension.keys()) for dimension in dataset.dims]
    dims = tuple(names[0] for names in scales if names)
    return Variable(
        _values(dataset), dims, None if fill is None else float(fill), attributes
    )


def _values(dataset: Any) -> Array:
    values: Array = np.asarray(dataset[()])
    if values.dtype.kind in "OS":  # texts
        decoded = [v.decode() if isinstance(v, bytes) else str(v) for v in values.flat]
        values = np.array(decoded).reshape(values.shape)
    return values


def _attributes(attributes: Any) -> dict[str, Attribute]:
    """Attributes that are single texts or numbers; others belong to the format."""
    read: dict[str, Attribute] = {}
    for name, value in attributes.items():
        single = np.asarray(value)
        if single.size == 1 and single.dtype.kind in "OSUif":
            item = single.reshape(-1)[0]
            known = item.decode() if isinstance(item, bytes) else item
            read[name] = known.item() if isinstance(known, np.generic) else known
    return read
