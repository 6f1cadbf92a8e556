"""Surfaces and projections that the published code of Li et al. wrote.

Source: Li et al., 2018, arXiv:1712.09913, and its published code. There, -1 stands for
points that are not computed (+1 for the least eigenvalue), accuracies are in percent,
and arrays of a plane are made with the shape (X, Y) and filled in the order of
(Y, X): where the two lengths differ, the shape is put right here.

Shape letters: T checkpoints, K directions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.surfaces.files.fields import LOSS
from steppe.surfaces.files.quantities import PUBLISHED
from steppe.surfaces.files.reference_names import flags_of
from steppe.surfaces.files.stored import Array, Stored, tensor_of
from steppe.surfaces.overlays import Trajectory
from steppe.surfaces.surface import Surface, Values, letters_of

NOT_COMPUTED = -1.0
PROJECTED = "proj_xcoord"


def reference_surface(stored: Stored) -> Surface:
    """The surface of arrays of the published code.

    The number of samples is not in its files and is 0, errors are NaN.

    Raises:
        DataError: neither a loss nor eigenvalues, or arrays of other shapes.
        KeyError: no coordinates.
    """
    arrays = {name: each.values for name, each in stored.variables.items()}
    named = [name for name in (LOSS, *PUBLISHED) if name in arrays]
    if not named:
        raise DataError(f"it has no {LOSS}")
    letters = [
        letter for letter in letters_of(3) if f"{letter}coordinates" in arrays
    ] or ["x"]
    coordinates = tuple(
        tuple(map(float, arrays[f"{letter}coordinates"])) for letter in letters
    )
    shape = tuple(len(along) for along in reversed(coordinates))
    grids = {name: _on_grid(name, arrays[name], shape) for name in named}
    empty = torch.full(shape, torch.nan, dtype=torch.float64, device="cpu")
    loss = grids.get(LOSS, empty)
    # A loss that is NaN was computed; where there is no loss, none was.
    computed = (
        loss != NOT_COMPUTED
        if LOSS in grids
        else torch.zeros(shape, device="cpu").bool()
    )
    return Surface(
        coordinates=coordinates,
        loss=torch.where(computed, loss, torch.nan),
        stderr=empty,
        samples=0,
        computed=None if bool(computed.all()) else computed,
        quantities={
            PUBLISHED[name].quantity: _quantity(name, grid)
            for name, grid in grids.items()
            if name != LOSS
        },
        details=_details(arrays),
    )


def projection_of(source: Path) -> tuple[str, str]:
    """Name of the file of directions, and "cos" or "lstsq", of a projection file.

    Example:
        >>> projection_of(Path("run/directions.h5_proj_cos.h5"))
        ('directions.h5', 'cos')
    """
    directions, _, method = source.stem.rpartition("_proj_")
    return directions, method if method in ("cos", "lstsq") else ""


def coordinates_from(lengths: Tensor, gram: Tensor) -> Tensor:
    """Coordinates by least squares, from lengths along each direction.

    A length is <d, x> / |x|, of a displacement d along a direction x.

    Args:
        lengths: shape (T, K).
        gram: inner products of the directions, shape (K, K), not singular.

    Example:
        >>> gram = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
        >>> coordinates_from(torch.tensor([[1.125, 0.75]]), gram).tolist()
        [[0.5, 0.25]]
    """
    products = lengths * gram.diagonal().sqrt()
    solved: Tensor = torch.linalg.solve(gram, products.T).T
    return solved


def reference_trajectory(
    stored: Stored, source: Path, gram: Tensor | None = None
) -> Trajectory:
    """The trajectory of a projection file of the published code.

    Distances from the plane are not in it and are NaN. With the projection "cos",
    which the name of the file says, the numbers are lengths along each direction alone.
    They are coordinates where the directions are orthogonal and of norm 1; elsewhere
    the directions are needed.

    Args:
        stored: arrays of the file.
        source: the file, whose name says the projection.
        gram: inner products of the directions, shape (K, K); None where not known.

    Raises:
        KeyError: no coordinates.
        ValueError: coordinates of different lengths.
    """
    arrays = {name: each.values for name, each in stored.variables.items()}
    letters = [
        letter for letter in letters_of(3) if f"proj_{letter}coord" in arrays
    ] or ["x"]
    columns = [arrays[f"proj_{letter}coord"].astype(np.float64) for letter in letters]
    coordinates = tensor_of(np.stack(columns, axis=1))
    unknown = torch.full(
        (len(coordinates),), torch.nan, dtype=torch.float64, device="cpu"
    )
    _, method = projection_of(source)
    if method == "cos" and gram is not None:
        coordinates, method = coordinates_from(coordinates, gram), "lstsq"
    known = {"projection": method} if method else {}
    return Trajectory(
        coordinates=coordinates,
        residual=unknown,
        relative_residual=unknown.clone(),
        details=known,
    )


def _on_grid(name: str, values: Array, shape: tuple[int, ...]) -> Tensor:
    created = tuple(reversed(shape))
    if values.shape == shape:
        return tensor_of(values.astype(np.float64))
    if values.shape == created:
        # The content is in the order of (Y, X): not a transposed array.
        return tensor_of(values.astype(np.float64).reshape(shape))
    raise DataError(
        f"{name} has the shape {values.shape} where the coordinates make {shape}"
    )


def _quantity(name: str, grid: Tensor) -> Values:
    known = PUBLISHED[name]
    return Values(
        values=torch.where(grid == known.unset, torch.nan, grid), units=known.units
    )


def _details(arrays: dict[str, Array]) -> dict[str, str]:
    """How the directions were made, which the name of their file says."""
    if "dir_file" not in arrays:
        return {}
    directions = str(arrays["dir_file"])
    return {"dir_file": directions, **flags_of(directions)}
