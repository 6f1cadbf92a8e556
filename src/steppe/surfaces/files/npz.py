"""Files of numpy, with the arrays and attributes that an HDF5 file would have."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steppe.errors import DataError
from steppe.surfaces.files.stored import DAMAGE, Stored, Variable, Wanted, reason

SIGNATURE = b"PK"
HEAD = (
    "/attributes"  # the array with the attributes as JSON; no array has a slash first
)


def npz_content(stored: Stored) -> bytes:
    """The bytes of a file."""
    head = {
        "attributes": dict(stored.attributes),
        "variables": {
            name: {
                "dims": each.dims,
                "fill": None if each.fill is None else str(each.fill),
                "attributes": dict(each.attributes),
            }
            for name, each in stored.variables.items()
        },
    }
    arrays = {HEAD: np.array(json.dumps(head))}
    arrays |= {name: each.values for name, each in stored.variables.items()}
    file = io.BytesIO()
    # Not by numpy.savez: it has names of its own, and writes the time of day.
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
    return file.getvalue()


def read_npz(path: Path, wanted: Wanted) -> Stored:
    """Arrays and attributes of a file.

    Args:
        path: of the file.
        wanted: whether to read an array, by name.

    Raises:
        DataError: damaged, or of another program.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            names = file.files
            if HEAD in file:
                return _stored(file, json.loads(str(file[HEAD][()])), wanted)
    except DAMAGE as error:
        raise DataError(
            f"{path} is damaged and cannot be read as npz ({reason(error)}); write "
            "it again."
        ) from error
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(
            f"{path} is of torch.save, as weights are, and holds no surface; name a "
            "file that Surface.save or `steppe landscape --out` wrote."
        )
    raise DataError(
        f"{path} holds arrays of another program; name a file that Surface.save wrote."
    )


def _stored(file: Mapping[str, Any], head: Any, wanted: Wanted) -> Stored:
    variables = {}
    for name, known in head["variables"].items():
        if wanted(name):
            fill = None if known["fill"] is None else float(known["fill"])
            dims = tuple(known["dims"])
            variables[name] = Variable(file[name], dims, fill, known["attributes"])
    return Stored(variables, head["attributes"])
