"""Surfaces as data sets of xarray, with the names of our HDF5 files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.errors import UsageError
from steppe.surfaces.files.fields import TRUTH, stored_of
from steppe.surfaces.files.stored import Array, Variable
from steppe.surfaces.surface import Surface

if TYPE_CHECKING:
    import xarray


def dataset_of(surface: Surface) -> xarray.Dataset:
    """The data set that xarray reads from a file of the surface.

    Raises:
        UsageError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError:
        raise UsageError(
            "to_xarray() needs xarray, which is not installed; run pip install xarray."
        ) from None
    stored = stored_of(surface)
    arrays = {
        name: (each.dims, _values(each), _attributes(each))
        for name, each in stored.variables.items()
    }
    coordinates = {name: array for name, array in arrays.items() if array[0] == (name,)}
    others = {name: array for name, array in arrays.items() if array[0] != (name,)}
    return xarray.Dataset(others, coordinates, dict(stored.attributes))


def _values(variable: Variable) -> Array:
    if variable.attributes == TRUTH:
        return variable.values.astype(bool)
    if variable.fill is None:
        return variable.values
    return np.where(variable.values == variable.fill, np.nan, variable.values)


def _attributes(variable: Variable) -> dict[str, Any]:
    return {} if variable.attributes == TRUTH else dict(variable.attributes)
