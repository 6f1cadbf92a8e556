"""Fields of a surface as the arrays of a file, and back.

Names and layout are those of Li et al., 2018, arXiv:1712.09913, in the published code,
wherever it has the quantity: `xcoordinates`, `train_loss`, `train_acc` in percent,
`proj_xcoord`; -1 stands for points that are not finished. Unlike there, arrays have the
shape (Y, X) of their content, and `n_samples`, where the number is known, says which
points are finished, so that a loss may be negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from steppe.errors import DataError
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.files.quantities import add_quantities, quantity_of
from steppe.surfaces.files.stored import (
    FORMAT,
    Array,
    Attribute,
    Stored,
    Variable,
    array_of,
    filled,
    tensor_of,
    without_fill,
)
from steppe.surfaces.overlays import Arrow, Trajectory
from steppe.surfaces.surface import Surface, letters_of

LOSS, STDERR = "train_loss", "train_loss_se"
ERRORS = {"rise_stderr": "train_loss_diff_se", "subset_stderr": "train_loss_subset_se"}
SAMPLES, COMPUTED = "n_samples", "computed"
EVERYWHERE = "computed_everywhere"  # of a surface whose `computed` is None
UNFINISHED = -1.0
TRUTH: Mapping[str, Attribute] = {"dtype": "bool"}  # as xarray marks truth values
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
    open_points = surface.unfinished.cpu().numpy()
    variables[LOSS] = filled(array_of(surface.loss), open_points, dims, UNFINISHED)
    variables[STDERR] = Variable(array_of(surface.stderr), dims)
    for field, name in ERRORS.items():
        error = getattr(surface, field)
        if error is not None:
            variables[name] = Variable(array_of(error), dims)
    if surface.samples:  # a count of 0 would say that no point is finished
        variables[SAMPLES] = Variable(_counts(surface), dims)
    everywhere = surface.computed is None
    computed = np.ones(surface.loss.shape, dtype=np.bool_)
    if surface.computed is not None:
        computed = array_of(surface.computed)
    variables[COMPUTED] = Variable(computed, dims, attributes=TRUTH)
    quantities = add_quantities(variables, surface, open_points, dims)
    paths = [
        add_path(variables, path, letters, number)
        for number, path in enumerate(surface.paths, start=1)
    ]
    attributes: dict[str, Attribute] = {
        "format": FORMAT,
        "samples": surface.samples,
        **({EVERYWHERE: 1} if everywhere else {}),
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
    some = COMPUTED in arrays and EVERYWHERE not in attributes
    computed = tensor_of(arrays[COMPUTED]).bool() if some else None
    loss = without_fill(stored.variables[LOSS], computed)

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
            each["name"]: quantity_of(each, stored.variables, computed)
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


def _units(surface: Surface) -> Sequence[str]:
    count = len(surface.coordinates)
    return surface.axes if len(surface.axes) == count else [""] * count


def _counts(surface: Surface) -> Array:
    """Samples behind each point; 0 where it was not computed."""
    kind = np.uint32 if surface.samples < 2**32 else np.uint64
    counts = np.full(tuple(surface.loss.shape), surface.samples, dtype=kind)
    if surface.computed is not None:
        counts[array_of(surface.computed) == 0] = 0
    return counts
