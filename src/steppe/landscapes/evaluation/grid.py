"""Coordinates of a grid, from ranges or one by one."""

from __future__ import annotations

import itertools
import math
import numbers
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from steppe.errors import SettingError, brief
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.surfaces.surface import letters_of

WRITTEN = 12  # digits of a number that somebody wrote; a computed one has more
Coordinates = tuple[float, float, int] | Iterable[float]
Place = tuple[int, ...]  # an index into the coordinates of each axis, x first

COUNT = 51  # points along an axis where nothing else is asked, as published


@dataclass(frozen=True)
class Grid:
    """All combinations of coordinates along the axes of a subspace."""

    coordinates: tuple[tuple[float, ...], ...]  # of each axis, x first
    ranged: tuple[bool, ...]  # of each axis, whether they are evenly spaced in a range
    origin: Point  # coordinates of the base point

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of coordinates of each axis, x first."""
        return tuple(map(len, self.coordinates))

    @property
    def bases(self) -> tuple[int | None, ...]:
        """Index of the base point along each axis, None where it is no coordinate."""
        pairs = zip(self.coordinates, self.origin, strict=True)
        return tuple(
            along.index(centre) if centre in along else None for along, centre in pairs
        )

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Least and largest coordinate of each axis."""
        return [(min(along), max(along)) for along in self.coordinates]

    @cached_property
    def widths(self) -> list[float]:
        """Widths of these ranges, 1 for a single coordinate."""
        return [high - low or 1.0 for low, high in self.ranges]

    def places(self) -> list[Place]:
        """All of them, the last axis changing fastest."""
        return list(itertools.product(*map(range, self.counts)))

    def point(self, place: Place) -> Point:
        """Coordinates at a place."""
        pairs = zip(self.coordinates, place, strict=True)
        return tuple(along[index] for along, index in pairs)

    def outward(self, points: Iterable[Point]) -> list[Point]:
        """Points by their distance from the base point, in units of the ranges.

        Whoever stops early has the basin, and not the first rows.
        """

        def distance(point: Point) -> tuple[float, Point]:
            axes = zip(point, self.origin, self.widths, strict=True)
            return sum(((c - base) / width) ** 2 for c, base, width in axes), point

        return sorted(points, key=distance)


def grid_of(subspace: Subspace, xyz: Sequence[Any], axes: Sequence[Any] | None) -> Grid:
    """The grid of coordinates along each axis of a subspace.

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
    full = [
        (*axis.range, COUNT) if along is None else along
        for axis, along in zip(subspace.axes, chosen, strict=False)
    ]
    coordinates = tuple(map(coordinates_of, full, letters))
    # Coordinates that round to the same ones have no steps to halve.
    ranged = tuple(
        is_range(asked) and len(set(along)) == len(along)
        for asked, along in zip(full, coordinates, strict=True)
    )
    return Grid(coordinates, ranged, subspace.origin)


def warn_without_base(grid: Grid, subspace: Subspace) -> None:
    """Warn of even steps that go around or beside the base point.

    Coordinates that were listed one by one are meant as they are, and so is a part of a
    line between networks, which is not around its base point.
    """
    letters = letters_of(len(grid.coordinates))
    for i, (low, high) in enumerate(grid.ranges):
        if not grid.ranged[i] or grid.bases[i] is not None:
            continue
        own = subspace.axes[i].range
        if low < 0 < high:
            advice = _with_zero(grid.coordinates[i], letters[i])
            reason = f"no point along {letters[i]} is at 0"
        elif own[0] < 0 < own[1]:
            advice = f"give {letters[i]} a range that holds 0, or a list"
            reason = f"the range of {letters[i]}, {low:g} to {high:g}, does not hold 0"
        else:
            continue
        warnings.warn(
            f"{reason}, where the base point is, so that the surface misses it; "
            f"{advice}.",
            stacklevel=3,
        )


def _with_zero(along: tuple[float, ...], letter: str) -> str:
    """Advice on the coordinates of a range that passes 0 between two of them."""
    start, stop, count = along[0], along[-1], len(along)
    if start == -stop:
        return f"take an odd count of {letter}, such as {count + 1}"
    for more in range(count + 1, 2 * count + 2):
        if 0.0 in _evenly(start, stop, more):
            return f"take another count of {letter}, such as {more}"
    end = max(abs(start), abs(stop))
    return (
        f"give {letter} as a list that holds 0, or as a range with 0 in its middle and "
        f"an odd count, such as ({-end:g}, {end:g}, {count + 1 - count % 2})"
    )


def is_range(along: Any) -> bool:
    """Whether coordinates are given as `(start, stop, count)`."""
    triple = isinstance(along, tuple) and len(along) == 3
    return triple and isinstance(along[2], numbers.Integral)


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


def _numbers(along: Any, letter: str) -> tuple[float, ...]:
    triple = isinstance(along, tuple) and len(along) == 3
    if is_range(along):
        start, stop, count = float(along[0]), float(along[1]), int(along[2])
        if count < 2:
            raise SettingError(
                f"the count of {letter}=(start, stop, count) must be >= 2, got {count};"
                " give single coordinates as a list."
            )
        coordinates = _evenly(start, stop, count)
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


def _evenly(start: float, stop: float, count: int) -> tuple[float, ...]:
    """Evenly spaced coordinates, each rounded once.

    One that is 0 but for the rounding of both ends is 0, where the base point is.

    Example:
        >>> _evenly(-0.2, 1.2, 8)
        (-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
    """
    if not (math.isfinite(start) and math.isfinite(stop)):
        return (start, stop)
    low, high, last = _exact(start), _exact(stop), count - 1
    places = (float((low * (last - i) + high * i) / last) for i in range(count))
    rounding = sys.float_info.epsilon * max(abs(start), abs(stop))
    return tuple(0.0 if abs(place) <= rounding else place for place in places)


def _exact(number: float) -> Fraction:
    """The number that is meant: one of few digits was written as a decimal."""
    text = repr(number)
    written = sum(map(str.isdigit, text)) <= WRITTEN
    return Fraction(text) if written else Fraction(number)
