"""Basins of a surface: its minima, and how deep each is, by the merge tree.

The sub-level set of a value v holds the points of the grid with at most that value. As
v rises, a component begins at each minimum, and components join at saddles. When two
join, the one whose minimum is higher ends (the elder rule); its depth, or persistence,
is the rise from its minimum to that saddle.

Source: Edelsbrunner, Letscher and Zomorodian, 2002, Topological Persistence and
Simplification; Carr, Snoeyink and Axen, 2003, Computing Contour Trees in All
Dimensions. Here values are those of the grid's points, without interpolation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError, brief, check_choice, check_range
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table
from steppe.surfaces.surface import Surface

Neighbours = Literal["corners", "faces"]
ERRORS = 2.0  # standard errors that a basin must be deeper than


@dataclass(frozen=True, kw_only=True)
class Basin:
    """A minimum of a surface, and where its sub-level set joins a deeper one."""

    point: tuple[float, ...]  # coordinates of the minimum, x first
    value: float  # there
    depth: float  # rise to the saddle; inf for the last of what is connected
    stderr: float  # at least that of the depth
    saddle: tuple[float, ...] | None = None  # coordinates; None of the last
    parent: int | None = None  # place of the basin that it joins
    points: int = 1  # of the grid, below the saddle
    at_edge: bool = False  # the minimum: beyond the grid there may be lower values


@dataclass(frozen=True, kw_only=True, repr=False)
class Basins(AbstractTabulated):
    """Basins of a surface from the deepest on, and how many minima are none."""

    basins: tuple[Basin, ...]  # the last of each connected part first, then by depth
    shallow: int  # minima that are not deeper than threshold and errors
    deepest_shallow: float  # depth of the deepest of them; 0 where there is none
    left_out: int  # points without a finite value
    neighbours: Neighbours
    threshold: float  # depth of a basin at least
    errors: float  # standard errors of the depth, which it must exceed

    def sentence(self) -> str:
        """The number of basins and the depth of the next, for a caption."""
        count = len(self.basins)
        if not count:
            return "No value is finite."
        subject = "One basin" if count == 1 else f"{count} basins"
        parts = [
            f"the one at {_text(basin.point)} is {basin.depth:.2g} deep"
            for basin in self.basins
            if math.isfinite(basin.depth)
        ][:2]
        if self.shallow and count == 1:
            parts.append(f"the next minimum is {self.deepest_shallow:.2g} deep")
        edge = "; the lowest minimum is at the edge" if self.basins[0].at_edge else ""
        return f"{'; '.join([subject, *parts])}{edge}."

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = dict(vars(self)) | {"basins": [vars(b) for b in self.basins]}
        return {name: plain(value) for name, value in fields.items()}

    def table(self) -> Table:
        """One row for each basin."""
        rows = [
            [
                _text(basin.point),
                f"{basin.value:.4g}",
                f"{basin.depth:.3g}" if math.isfinite(basin.depth) else "the last",
                _text(basin.saddle) if basin.saddle else "",
                f"{basin.points:,}",
            ]
            for basin in self.basins
        ]
        columns = ("minimum at", "value", "depth", "saddle at", "points")
        return Table(columns, rows, [self.sentence()])


def basins(
    surface: Surface,
    quantity: str = "loss",
    *,
    threshold: float = 0.0,
    errors: float = ERRORS,
    neighbours: Neighbours = "corners",
) -> Basins:
    """Minima of a surface that are deeper than a threshold and their errors.

    The standard error of a depth is not known, as that of a difference between two
    points is not kept. In its place stands the most that it can be, whatever their
    correlation is: the sum of the errors of both values, or of their rises above the
    base point where that is less. Where many points are drawn with noise the lowest of
    them is too low, so that a minimum of a few errors is no discovery.

    Points without a finite value are left out; they may part the grid, and then each
    part has a last basin. Minima at the edge of the grid count, since the values are
    those of the grid alone.

    Args:
        surface: of any number of axes.
        quantity: "loss", or the name of a quantity beside it.
        threshold: depth that a basin must exceed, in units of the quantity.
        errors: number of standard errors that the depth must exceed.
        neighbours: points that touch: "corners" along diagonals too (2 on a line, 8 on
            a plane, 26 in a box), "faces" along the axes alone (2, 4, 6).

    Raises:
        SettingError: no surface, no such quantity, a threshold or number of errors
            below 0, or other neighbours.

    Example:
        >>> x = (-1.0, -0.5, 0.0, 0.5, 1.0)
        >>> loss = torch.tensor([0.0, 1.0, 2.0, 0.5, 3.0])
        >>> line = Surface(
        ...     coordinates=(x,), loss=loss, stderr=torch.zeros(5), samples=1
        ... )
        >>> basins(line).sentence()
        '2 basins; the one at 0.5 is 1.5 deep; the lowest minimum is at the edge.'
    """
    if not isinstance(surface, Surface):
        raise SettingError(f"basins() needs a Surface, got {brief(surface)}.")
    check_choice("quantity", quantity, ["loss", *surface.quantities])
    check_range("threshold", threshold, 0.0)
    check_range("errors", errors, 0.0)
    check_choice("neighbours", neighbours, ("corners", "faces"))
    grid = _Grid(surface, quantity)
    minima = _minima(grid, neighbours)
    chosen: list[_Minimum] = []
    shallow: list[_Minimum] = []
    for each in minima:
        deep = each.depth > max(threshold, errors * grid.error(each.low, each.saddle))
        (chosen if deep else shallow).append(each)
    chosen.sort(key=lambda each: (-each.depth, grid.values[each.low]))
    place = {each.low: i for i, each in enumerate(chosen)}
    by_low = {each.low: each for each in minima}
    return Basins(
        basins=tuple(grid.basin(each, place, by_low) for each in chosen),
        shallow=len(shallow),
        deepest_shallow=max((each.depth for each in shallow), default=0.0),
        left_out=len(grid.values) - len(grid.finite),
        neighbours=neighbours,
        threshold=float(threshold),
        errors=float(errors),
    )


@dataclass
class _Minimum:
    """A component of the sub-level sets, by indices of points."""

    low: int  # index of the minimum
    points: int = 0
    depth: float = math.inf
    saddle: int | None = None
    parent: int | None = None  # index of the minimum that it joins


class _Grid:
    """Values of a surface by index, x changing fastest, in ascending coordinates."""

    def __init__(self, surface: Surface, quantity: str) -> None:
        orders = [
            torch.tensor(along, device="cpu").argsort() for along in surface.coordinates
        ]
        self.coordinates = [sorted(along) for along in surface.coordinates]
        self.shape = tuple(len(along) for along in self.coordinates)

        def flat(tensor: Tensor | None) -> list[float] | None:
            if tensor is None:
                return None
            for axis, order in enumerate(reversed(orders)):
                tensor = tensor.index_select(axis, order.to(tensor.device))
            numbers: list[float] = tensor.double().flatten().tolist()
            return numbers

        kept = surface.quantities.get(quantity)
        values = flat(surface.loss if kept is None else kept.values)
        assert values is not None
        self.values = values
        both = (
            (surface.stderr, surface.rise_stderr)
            if kept is None
            else (kept.stderr, None)
        )
        self._errors = [e for e in map(flat, both) if e is not None]
        self.finite = [i for i, value in enumerate(values) if math.isfinite(value)]

    def place(self, index: int) -> tuple[int, ...]:
        """Index along each axis, x first."""
        places = []
        for count in self.shape:
            index, place = divmod(index, count)
            places.append(place)
        return tuple(places)

    def point(self, index: int) -> tuple[float, ...]:
        """Coordinates of a point."""
        pairs = zip(self.coordinates, self.place(index))
        return tuple(float(along[place]) for along, place in pairs)

    def error(self, low: int, high: int | None) -> float:
        """The most that the standard error of a difference can be; 0 if not known."""
        if high is None:
            return 0.0
        sums = [errors[low] + errors[high] for errors in self._errors]
        return min((s for s in sums if math.isfinite(s)), default=0.0)

    def neighbours(self, index: int, steps: Sequence[Sequence[int]]) -> Iterator[int]:
        """Indices of the points that touch one."""
        places = self.place(index)
        for step in steps:
            moved = [p + s for p, s in zip(places, step)]
            if all(0 <= p < count for p, count in zip(moved, self.shape)):
                other = 0
                for place, count in zip(reversed(moved), reversed(self.shape)):
                    other = other * count + place
                yield other

    def basin(
        self, each: _Minimum, place: dict[int, int], by_low: dict[int, _Minimum]
    ) -> Basin:
        parent = each.parent
        # Minima between a basin and the next may be too shallow to count.
        while parent is not None and parent not in place:
            parent = by_low[parent].parent
        edges = zip(self.place(each.low), self.shape)
        return Basin(
            point=self.point(each.low),
            value=self.values[each.low],
            depth=each.depth,
            stderr=self.error(each.low, each.saddle),
            saddle=None if each.saddle is None else self.point(each.saddle),
            parent=None if parent is None else place[parent],
            points=each.points,
            at_edge=any(p in (0, count - 1) for p, count in edges if count > 1),
        )


def _minima(grid: _Grid, neighbours: Neighbours) -> list[_Minimum]:
    """All minima of positive depth, by the union of components in ascending order."""
    steps = _steps(len(grid.shape), neighbours)
    owner: dict[int, int] = {}  # of each point seen: another of its component
    components: dict[int, _Minimum] = {}  # by the root of the component
    ended = []

    def root(index: int) -> int:
        while owner[index] != index:
            owner[index] = owner[owner[index]]
            index = owner[index]
        return index

    for index in sorted(grid.finite, key=grid.values.__getitem__):
        seen = (other for other in grid.neighbours(index, steps) if other in owner)
        roots = sorted({root(other) for other in seen}, key=_age(grid, components))
        owner[index] = roots[0] if roots else index
        if not roots:
            components[index] = _Minimum(low=index)
        eldest = components[owner[index]]
        for other in roots[1:]:
            younger = components.pop(other)
            younger.saddle, younger.parent = index, eldest.low
            younger.depth = grid.values[index] - grid.values[younger.low]
            owner[other] = owner[index]
            eldest.points += younger.points
            ended.append(younger)
        eldest.points += 1
    # On a plateau each point but the first joins the others at once, without a depth.
    return [*components.values(), *(each for each in ended if each.depth > 0)]


def _age(grid: _Grid, components: dict[int, _Minimum]) -> Any:
    """Order of components: the lowest minimum first, then the first in the grid."""

    def age(root: int) -> tuple[float, int]:
        low = components[root].low
        return grid.values[low], low

    return age


def _steps(axes: int, neighbours: Neighbours) -> list[tuple[int, ...]]:
    every = itertools.product((-1, 0, 1), repeat=axes)
    most = axes if neighbours == "corners" else 1
    return [step for step in every if 0 < sum(map(abs, step)) <= most]


def _text(point: Sequence[float]) -> str:
    numbers = ", ".join(f"{number:.3g}" for number in point)
    return numbers if len(point) == 1 else f"({numbers})"
