"""Surfaces from their files, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steppe.errors import SettingError
from steppe.surfaces import Surface
from steppe.surfaces.files.projections import load_trajectories


def read_surfaces(
    paths: Sequence[Path], trajectories: Sequence[Path] = ()
) -> dict[str, Surface]:
    """Surfaces of the same number of axes, by the shortest names that tell them apart.

    Args:
        paths: of their files.
        trajectories: files of paths, which all surfaces get.

    Raises:
        DataError: a file that is missing, damaged or no surface.
        SettingError: no file, the same one twice, or surfaces of unlike axes.
    """
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise SettingError("name every file of a surface once, and at least one.")
    surfaces = [Surface.load(path) for path in paths]
    first = len(surfaces[0].coordinates)
    for path, surface in zip(paths, surfaces, strict=True):
        if len(surface.coordinates) != first:
            raise SettingError(
                f"surfaces in one picture must have as many axes, got {first} in "
                f"{paths[0]} and {len(surface.coordinates)} in {path}."
            )
    along = [each for file in trajectories for each in load_trajectories(file)]
    for trajectory in along:
        surfaces = [surface.with_path(trajectory) for surface in surfaces]
    return dict(zip(_names(paths), surfaces, strict=True))


def _names(paths: Sequence[Path]) -> list[str]:
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
