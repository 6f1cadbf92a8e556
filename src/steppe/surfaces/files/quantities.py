"""Quantities beside the loss as arrays of a file.

Those that the published code of Li et al., 2018, arXiv:1712.09913, has too get its
names and units, such as `train_acc` in percent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from steppe.surfaces.files.stored import (
    Array,
    Variable,
    array_of,
    filled,
    tensor_of,
    without_fill,
)
from steppe.surfaces.surface import Surface, Values

PERCENT, CURVATURE = "percent", "loss per squared parameter"
# Other names in a file that a quantity must not take.
RESERVED = re.compile("checkpoints|proj_|path_|dir_file|[xyz].*direction")


@dataclass(frozen=True)
class Published:
    """An array of the published code."""

    quantity: str  # name of the quantity
    units: str
    unset: float = -1.0  # the value of a point that is not computed


PUBLISHED = {
    "train_acc": Published("accuracy", PERCENT),
    "test_loss": Published("test_loss", "loss"),
    "test_acc": Published("test_accuracy", PERCENT),
    "max_eig": Published("top_eigenvalue", CURVATURE),
    "min_eig": Published("smallest_eigenvalue", CURVATURE, 1.0),
}
ARRAYS = {each.quantity: array for array, each in PUBLISHED.items()}


def add_quantities(
    variables: dict[str, Variable],
    surface: Surface,
    unfinished: Array,
    dims: tuple[str, ...],
) -> list[dict[str, str]]:
    """Add the quantities of a surface to its arrays; how they are named there."""
    return [
        _add(variables, name, quantity, unfinished, dims)
        for name, quantity in surface.quantities.items()
    ]


def quantity_of(
    entry: Mapping[str, str],
    variables: Mapping[str, Variable],
    computed: Tensor | None,
) -> Values:
    """The quantity of an entry that `add_quantities` gave."""
    place = entry.get("stderr")
    return Values(
        values=without_fill(variables[entry["values"]], computed),
        stderr=tensor_of(variables[place].values) if place else None,
        units=entry["units"],
    )


def _add(
    variables: dict[str, Variable],
    name: str,
    quantity: Values,
    unfinished: Array,
    dims: tuple[str, ...],
) -> dict[str, str]:
    values = array_of(quantity.values)
    array = ARRAYS.get(name, "")
    known = PUBLISHED.get(array)
    if known and array not in variables:
        if known.units != PERCENT or quantity.units == PERCENT:
            variables[array] = filled(values, unfinished, dims, known.unset)
            return _entry(variables, name, quantity, array, dims)
        # Beside the quantity: a hundred times a number does not divide back.
        variables[array] = filled(100 * values, unfinished, dims, known.unset)
    place = _free(name, variables)
    attributes = {"units": quantity.units} if quantity.units else {}
    variables[place] = Variable(values, dims, attributes=attributes)
    return _entry(variables, name, quantity, place, dims)


def _entry(
    variables: dict[str, Variable],
    name: str,
    quantity: Values,
    place: str,
    dims: tuple[str, ...],
) -> dict[str, str]:
    entry = {"name": name, "units": quantity.units, "values": place}
    if quantity.stderr is not None:
        entry["stderr"] = _free(f"{place}_se", variables)
        variables[entry["stderr"]] = Variable(array_of(quantity.stderr), dims)
    return entry


def _free(name: str, variables: Mapping[str, Variable]) -> str:
    """A name that netCDF allows and that nothing else in the file has."""
    allowed = "".join(c if c.isalnum() or c in "_.@+-" else "_" for c in name)
    if not allowed[:1].isalpha() or RESERVED.match(allowed) or allowed in PUBLISHED:
        allowed = f"of_{allowed}"
    while allowed in variables:
        allowed += "_"
    return allowed
