"""Files of trajectories that are projected onto a subspace."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.surfaces.files.directions import load_directions
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.files.fields import add_path, path_of
from steppe.surfaces.files.formats import no_direction, read_stored, write_stored
from steppe.surfaces.files.reference import (
    PROJECTED,
    projection_of,
    reference_trajectory,
)
from steppe.surfaces.files.stored import DAMAGE, FORMAT, Stored, Variable, reason
from steppe.surfaces.overlays import Trajectory
from steppe.surfaces.surface import letters_of


def save_trajectory(trajectory: Trajectory, path: str | PathLike[str]) -> None:
    """Write a trajectory to a file of its own, replacing one that is there.

    Its names are those of Li et al., 2018, arXiv:1712.09913, in the published code:
    `proj_xcoord` and `proj_ycoord`.

    Raises:
        SettingError, UsageError, OSError: see `write_stored`.
    """
    variables: dict[str, Variable] = {}
    letters = letters_of(trajectory.coordinates.shape[1])
    entry = add_path(variables, trajectory, letters, 1)
    attributes = {"format": FORMAT, "paths": to_json([entry])}
    write_stored(Path(path), Stored(variables, attributes))


def load_trajectories(path: str | PathLike[str]) -> tuple[Trajectory, ...]:
    """Read the trajectories of a file, of steppe or of the published code.

    A file of the published code with the projection "cos" has lengths along each
    direction alone. Where the file of the directions lies beside it under its published
    name, coordinates by least squares follow from both.

    Raises:
        DataError: no such file, damaged, or without a trajectory.
        UsageError: the package of the format is not installed.
    """
    source = Path(path)
    stored = read_stored(source, no_direction)
    if PROJECTED not in stored.variables:
        raise DataError(
            f"{source} holds no trajectory, as it has no {PROJECTED}; name a file of "
            "projected checkpoints."
        )
    try:
        if "paths" not in stored.attributes:
            return (reference_trajectory(stored, source, _gram_for(source)),)
        arrays = {name: each.values for name, each in stored.variables.items()}
        entries = from_json(str(stored.attributes["paths"]))
        return tuple(path_of(entry, arrays) for entry in entries)
    except DAMAGE as error:
        raise DataError(
            f"{source} holds no whole trajectory ({reason(error)}); write it again."
        ) from error


def _gram_for(source: Path) -> Tensor | None:
    """Inner products of the directions of a "cos" projection; None where not known."""
    name, method = projection_of(source)
    if method != "cos" or not source.with_name(name).is_file():
        return None
    flat = [
        torch.cat([tensor.double().flatten() for tensor in tensors])
        for tensors in load_directions(source.with_name(name)).tensors
    ]
    rows = torch.stack(flat)
    gram = rows @ rows.T
    # Of parallel directions there are no single coordinates.
    return gram if int(torch.linalg.matrix_rank(gram)) == len(gram) else None
