"""Files of surfaces."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from steppe.errors import DataError
from steppe.surfaces.files.directions import Directions, variables_of
from steppe.surfaces.files.fields import stored_of, surface_of
from steppe.surfaces.files.formats import (
    WRITERS,
    check_target,
    no_direction,
    read_stored,
    write_stored,
)
from steppe.surfaces.files.points import has_points, partial_surface
from steppe.surfaces.files.recipes import check_recipe
from steppe.surfaces.files.reference import reference_surface
from steppe.surfaces.files.stored import DAMAGE, Stored, reason
from steppe.surfaces.surface import Surface


def save_surface(
    surface: Surface,
    path: str | PathLike[str],
    directions: Directions | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a surface; see `Surface.save`."""
    target = Path(path)
    check_target(target, WRITERS)
    if target.exists() and not overwrite:
        check_recipe(target, load_surface(target).details, surface.details)
    stored = stored_of(surface)
    if directions is not None:
        tensors, attributes = variables_of(directions)
        stored = Stored(
            {**stored.variables, **tensors}, {**stored.attributes, **attributes}
        )
    write_stored(target, stored)


def load_surface(path: str | PathLike[str]) -> Surface:
    """Read a surface; see `Surface.load`."""
    source = Path(path)
    if has_points(source):
        return partial_surface(source)
    stored = read_stored(source, no_direction)
    try:
        ours = "format" in stored.attributes
        return surface_of(stored) if ours else reference_surface(stored)
    except DAMAGE as error:
        raise DataError(
            f"{source} holds no whole surface ({reason(error)}); name a file that "
            "does, or write it again."
        ) from error
