"""Fields of a surface as the arrays of a file, and back.

Names and layout are those of Li et al., 2018, arXiv:1712.09913, in the published code,
wherever it has the quantity: `xcoordinates`, `train_loss`, `train_acc` in percent,
`proj_xcoord`; -1 stands for points that are not finished. Unlike there, arrays have the
shape (Y, X) of their content, and `n_samples` says which points are finished, so that a
loss may be negative.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.files.stored import (
    FORMAT,
    Array,
    Attribute,
    Stored,
    Variable,
    array_of,
    tensor_of,
)
from steppe.surfaces.overlays import Arrow, Trajectory
from steppe.surfaces.surface import Surface, Values, letters_of

LOSS, STDERR = "train_loss", "train_loss_se"
ERRORS = {"rise_stderr": "train_loss_diff_se", "subset_stderr": "train_loss_subset_se"}
SAMPLES, COMPUTED, ACCURACY = "n_samples", "computed", "train_acc"
UNFINISHED = -1.0
TRUTH: Mapping[str, Attribute] = {"dtype": "bool"}  # as xarray marks truth values
RESERVED = re.compile("checkpoints|proj_|path_|dir_file|[xyz].*direction")
COLUMN_NAMES = {"stderr": "loss_se", "projected_stderr": "projected_loss_se"}


def stored_of(surface: Surface) -> Stored:
    """The arrays and attributes of a surface."""
    letters = surface.letters
    dims = tuple(f"{letter}coordinates" for letter in reversed(letters))
    variables = {
        f"{letter}coordinates": Variable(
            np.array(along, dtype=np.float64),
            (f"{letter}coordinates",),
            attributes={"long_name": unit} if unit else {},
        )
        for letter, along, unit in zip(
            letters, surface.coordinates, _units(surface), strict=True
        )
    }
    open_points = _unfinished(surface)
    variables[LOSS] = _with_fill(array_of(surface.loss), open_points, dims)
    variables[STDERR] = Variable(array_of(surface.stderr), dims)
    for field, name in ERRORS.items():
        error = getattr(surface, field)
        if error is not None:
            variables[name] = Variable(array_of(error), dims)
    variables[SAMPLES] = Variable(_counts(surface), dims)
    if surface.computed is not None:
        computed = array_of(surface.computed)
        variables[COMPUTED] = Variable(computed, dims, attributes=TRUTH)
    quantities = _add_quantities(variables, surface, open_points, dims)
    paths = [
        add_path(variables, path, letters, number)
        for number, path in enumerate(surface.paths, start=1)
    ]
    attributes: dict[str, Attribute] = {
        "format": FORMAT,
        "samples": surface.samples,
        "axes": to_json(list(surface.axes)),
        "recipe": to_json(dict(surface.details)),
        "versions": to_json(versions()),
        **({"quantities": to_json(quantities)} if quantities else {}),
        **({"paths": to_json(paths)} if paths else {}),
    }
    if surface.arrows:
        attributes["arrows"] = to_json([vars(arrow) for arrow in surface.arrows])
    return Stored(variables, attributes)


def surface_of(stored: Stored) -> Surface:
    """The surface of arrays and attributes that `stored_of` wrote.

    Raises:
        DataError, KeyError, TypeError, ValueError: they are not all there, or of the
            wrong kind or shape.
    """
    arrays = {name: each.values for name, each in stored.variables.items()}
    if LOSS not in arrays:
        raise DataError(f"it has no {LOSS}")
    attributes = stored.attributes
    letters = letters_of(arrays[LOSS].ndim)
    computed = tensor_of(arrays[COMPUTED]).bool() if COMPUTED in arrays else None
    loss = _without_fill(stored.variables[LOSS], computed)

    def listed(name: str) -> Any:
        return from_json(str(attributes.get(name, "[]")))

    return Surface(
        coordinates=tuple(
            tuple(map(float, arrays[f"{letter}coordinates"])) for letter in letters
        ),
        loss=loss,
        stderr=tensor_of(arrays[STDERR]),
        **{
            field: tensor_of(arrays[name])
            for field, name in ERRORS.items()
            if name in arrays
        },
        samples=int(attributes["samples"]),
        computed=computed,
        quantities={
            each["name"]: _quantity(each, stored.variables, computed)
            for each in listed("quantities")
        },
        axes=tuple(listed("axes")),
        paths=tuple(path_of(each, arrays) for each in listed("paths")),
        arrows=tuple(Arrow(**each) for each in listed("arrows")),
        details=from_json(str(attributes["recipe"])),
    )


def versions() -> dict[str, str]:
    """Versions of the packages that values depend on."""
    names = ("steppe", "torch", "numpy")
    return {name: metadata.version(name) for name in names}


def add_path(
    variables: dict[str, Variable],
    path: Trajectory,
    letters: Sequence[str],
    number: int,
) -> dict[str, Any]:
    """Add a trajectory to the arrays; the first has the names of the published code."""
    ending = "" if number == 1 else f"_{number}"
    dims = (f"checkpoints{ending}",)
    coordinates = [f"proj_{letter}coord{ending}" for letter in letters]
    for axis, place in enumerate(coordinates):
        along = array_of(path.coordinates)[:, axis]
        variables[place] = Variable(np.ascontiguousarray(along), dims)
    columns = {}
    for name, column in path.columns().items():
        columns[name] = f"path_{COLUMN_NAMES.get(name, name)}{ending}"
        variables[columns[name]] = Variable(array_of(column), dims)
    return {
        "name": path.name,
        "labels": path.labels,
        "coordinates": coordinates,
        "columns": columns,
        "details": dict(path.details),
    }


def path_of(entry: Mapping[str, Any], arrays: Mapping[str, Array]) -> Trajectory:
    """The trajectory of an entry that `add_path` gave."""
    places = [tensor_of(arrays[place]) for place in entry["coordinates"]]
    columns = {
        name: tensor_of(arrays[place]) for name, place in entry["columns"].items()
    }
    return Trajectory(
        coordinates=torch.stack(places, dim=1),
        name=entry["name"],
        labels=entry["labels"],
        details=entry["details"],
        **columns,
    )


def in_percent(name: str, quantity: Values) -> Tensor | None:
    """Values of an accuracy in percent; None for any other quantity."""
    if name not in ("accuracy", "acc", ACCURACY):
        return None
    percent = quantity.units in ("percent", "%")
    return quantity.values if percent else 100 * quantity.values


def _units(surface: Surface) -> Sequence[str]:
    count = len(surface.coordinates)
    return surface.axes if len(surface.axes) == count else [""] * count


def _unfinished(surface: Surface) -> Array:
    """Whether points have neither been computed nor interpolated."""
    loss = array_of(surface.loss)
    if surface.computed is None:
        return np.zeros(loss.shape, dtype=bool)
    unfinished: Array = np.isnan(loss) & (array_of(surface.computed) == 0)
    return unfinished


def _counts(surface: Surface) -> Array:
    """Samples behind each point; 0 where it was not computed."""
    kind = np.uint32 if surface.samples < 2**32 else np.uint64
    counts = np.full(tuple(surface.loss.shape), surface.samples, dtype=kind)
    if surface.computed is not None:
        counts[array_of(surface.computed) == 0] = 0
    return counts


def _with_fill(values: Array, unfinished: Array, dims: tuple[str, ...]) -> Variable:
    if (values == UNFINISHED).any():
        # Readers of netCDF would take finished values for unfinished ones.
        return Variable(values, dims, fill=np.nan)
    return Variable(np.where(unfinished, UNFINISHED, values), dims, fill=UNFINISHED)


def _without_fill(variable: Variable, computed: Tensor | None) -> Tensor:
    values = tensor_of(variable.values)
    if computed is None or variable.fill is None:
        return values
    # A computed value equal to the fill is a value.
    return torch.where((values == variable.fill) & ~computed, torch.nan, values)


def _add_quantities(
    variables: dict[str, Variable],
    surface: Surface,
    unfinished: Array,
    dims: tuple[str, ...],
) -> list[dict[str, str]]:
    """Add the quantities to the arrays; how they are named there."""
    entries = []
    for name, quantity in surface.quantities.items():
        percent = in_percent(name, quantity)
        own = percent is quantity.values and ACCURACY not in variables
        place = ACCURACY if own else _free(name, variables)
        entry = {"name": name, "units": quantity.units, "values": place}
        attributes = {"units": quantity.units} if quantity.units else {}
        values = array_of(quantity.values)
        if own:
            variables[place] = _with_fill(values, unfinished, dims)
        else:
            variables[place] = Variable(values, dims, attributes=attributes)
        if quantity.stderr is not None:
            entry["stderr"] = _free(f"{place}_se", variables)
            variables[entry["stderr"]] = Variable(array_of(quantity.stderr), dims)
        if percent is not None and ACCURACY not in variables:
            # Beside the quantity: a hundred times a number does not divide back.
            in_file = _with_fill(array_of(percent), unfinished, dims)
            variables[ACCURACY] = in_file
        entries.append(entry)
    return entries


def _quantity(
    entry: Mapping[str, str],
    variables: Mapping[str, Variable],
    computed: Tensor | None,
) -> Values:
    place = entry.get("stderr")
    return Values(
        values=_without_fill(variables[entry["values"]], computed),
        stderr=tensor_of(variables[place].values) if place else None,
        units=entry["units"],
    )


def _free(name: str, variables: Mapping[str, Variable]) -> str:
    """A name that netCDF allows and that nothing else in the file has."""
    allowed = "".join(c if c.isalnum() or c in "_.@+-" else "_" for c in name)
    if not allowed[:1].isalpha() or RESERVED.match(allowed):
        allowed = f"of_{allowed}"
    while allowed in variables:
        allowed += "_"
    return allowed
