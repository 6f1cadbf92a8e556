"""Coordinates of a grid, from ranges or one by one."""

from __future__ import annotations

import itertools
import math
import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steppe.errors import SettingError, brief
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.surfaces.surface import letters_of

Coordinates = tuple[float, float, int] | Iterable[float]

COUNT = 51  # points along an axis where nothing else is asked, as published


def grid_of(
    subspace: Subspace, xyz: Sequence[Any], axes: Sequence[Any] | None
) -> tuple[tuple[float, ...], ...]:
    """Coordinates along each axis of a subspace.

    Args:
        subspace: whose axes have ranges of their own, for coordinates of None.
        xyz: coordinates along the first axes, None where nothing was given.
        axes: the same along every axis, in the place of `xyz`; or None.

    Raises:
        SettingError: both, not one entry for each axis, or coordinates that are none.
    """
    count, given = len(subspace.axes), [along for along in xyz if along is not None]
    letters = letters_of(count)
    if axes is not None and given:
        raise SettingError("pass coordinates as axes or as x, y and z, not as both.")
    if axes is not None and not (isinstance(axes, list | tuple) and len(axes) == count):
        raise SettingError(
            f"axes must hold coordinates for each of the {count} axes, got "
            f"{brief(axes)}."
        )
    beyond = [along for along in xyz[count:] if along is not None]
    if beyond:
        raise SettingError(
            f"a subspace of {count} axes has coordinates along {', '.join(letters)} "
            f"alone, got more: {brief(beyond[0])}."
        )
    chosen = [*xyz, *[None] * count] if axes is None else axes
    coordinates = tuple(
        coordinates_of((*axis.range, COUNT) if along is None else along, letter)
        for axis, along, letter in zip(subspace.axes, chosen, letters, strict=False)
    )
    _warn_without_base(dict(zip(letters, coordinates)), chosen)
    return coordinates


def _warn_without_base(
    coordinates: Mapping[str, Sequence[float]], given: Sequence[Any]
) -> None:
    """Warn of even steps that go around the base point without meeting it.

    Coordinates that were listed one by one are meant as they are.
    """
    for (letter, along), asked in zip(coordinates.items(), given, strict=False):
        stepped = isinstance(asked, tuple) and len(asked) == 3 and along != asked
        if stepped and 0.0 not in along and min(along) < 0 < max(along):
            warnings.warn(
                f"no point along {letter} is at 0, where the base point is, so that "
                f"the surface misses it; take an odd count, such as {len(along) + 1}, "
                "or a range that has 0 among its steps.",
                stacklevel=4,
            )


def coordinates_of(along: Any, letter: str) -> tuple[float, ...]:
    """Coordinates along an axis.

    Args:
        along: a tuple `(start, stop, count)` whose count is an integer, of Python or
            numpy, for evenly spaced ones, both ends included; any other sequence for
            itself.
        letter: of the axis, for messages.

    Raises:
        SettingError: none, or some that are not finite, or a count that is no integer.
    """
    try:
        return _numbers(along, letter)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(
            f"{letter} must be (start, stop, count) or a list of coordinates, got "
            f"{brief(along)}."
        ) from error


def points_of(coordinates: Sequence[Sequence[float]]) -> list[Point]:
    """All points of a grid, the first axis changing fastest."""
    return [
        tuple(reversed(point)) for point in itertools.product(*reversed(coordinates))
    ]


def shape_of(coordinates: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Shape of values on a grid: a length for each axis, the first axis last."""
    return tuple(len(along) for along in reversed(coordinates))


def _numbers(along: Any, letter: str) -> tuple[float, ...]:
    triple = isinstance(along, tuple) and len(along) == 3
    if triple and isinstance(along[2], numbers.Integral):
        start, stop, count = float(along[0]), float(along[1]), int(along[2])
        if count < 2:
            raise SettingError(
                f"the count of {letter}=(start, stop, count) must be >= 2, got {count};"
                " give single coordinates as a list."
            )
        last = count - 1
        # Weighted ends: a symmetric range has its centre at exactly 0.
        coordinates = tuple(
            (start * (last - i) + stop * i) / last for i in range(count)
        )
    else:
        coordinates = tuple(float(coordinate) for coordinate in along)
        if triple and coordinates[2] >= 2 and coordinates[2].is_integer():
            raise SettingError(
                f"the count of {letter}=(start, stop, count) must be an integer, got "
                f"{along[2]!r}; give three coordinates as a list."
            )
    if not coordinates or not all(map(math.isfinite, coordinates)):
        raise SettingError(
            f"{letter} must hold at least one coordinate, all finite, got {along}."
        )
    return coordinates
