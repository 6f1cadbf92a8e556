"""Nested grids of the points that were asked for, from coarse to all of them.

The nodes of each level are some of the coordinates that were asked for, so that no
point is evaluated that nobody asked for, and the last level is the whole grid. Each
level halves the steps of the one before: 5, 9, 17, 33, ... nodes along an axis.

Shape letters: N coordinates of an axis, n nodes of a level along it, c its cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from steppe.landscapes.evaluation.grid import Grid, Place

FEWEST = 9  # coordinates of an axis that has levels; a shorter one is taken whole
START = 5  # nodes of the first level
ALL_TESTED = 64  # cells of a level that are all tested
SHARE = 5  # of more cells, one in so many is, and those beside the base point:
NEAR = 2  # so many in each direction

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


def levels_of_axis(count: int, base: int | None) -> list[Indices]:
    """Indices of the nodes of all levels of an axis; the last are all of them.

    Args:
        count: number N of coordinates.
        base: index of the base point, which is a node of all levels; None where the
            coordinates do not hold it.
    """
    nodes = {0, count - 1} | ({base} if base is not None else set())
    while len(nodes) < min(START, count):
        ordered = sorted(nodes)
        width, left = max((b - a, -a) for a, b in itertools.pairwise(ordered))
        nodes.add(-left + width // 2)
    levels = [np.array(sorted(nodes))]
    while len(levels[-1]) < count:
        last = levels[-1]
        middles = (last[:-1] + last[1:]) // 2
        levels.append(np.union1d(last, middles))
    return levels


def levels_of(grid: Grid) -> list[Level]:
    """All levels of a grid; coordinates that are no range are taken at each of them."""
    each = [
        levels_of_axis(count, base)
        if ranged and count >= FEWEST
        else [np.arange(count)]
        for count, base, ranged in zip(
            grid.counts, grid.bases, grid.ranged, strict=True
        )
    ]
    depth = max(map(len, each))
    nodes = [tuple(axis[min(i, len(axis) - 1)] for axis in each) for i in range(depth)]
    anchor = tuple(
        count // 2 if base is None else base
        for count, base in zip(grid.counts, grid.bases, strict=True)
    )
    return [Level(nodes[i], nodes[min(i + 1, depth - 1)], anchor) for i in range(depth)]


@dataclass(frozen=True)
class Level:
    """The nodes of a level along each axis, and of the next one.

    A cell lies between neighbouring nodes; along an axis whose next level has no other
    nodes each node is a cell.
    """

    nodes: tuple[Indices, ...]
    finer: tuple[Indices, ...]  # nodes of the next level
    anchor: Place  # of the base point, or the middle

    @cached_property
    def refined(self) -> tuple[bool, ...]:
        """Whether the next level has other nodes along each axis."""
        return tuple(len(a) < len(b) for a, b in zip(self.nodes, self.finer))

    def places(self) -> list[Place]:
        """All nodes."""
        return list(itertools.product(*(axis.tolist() for axis in self.nodes)))

    def tests(self) -> dict[Place, float]:
        """Centres of cells, which no spline through the nodes has seen, with weights.

        Of many, they are all near the base point, where relative errors are largest,
        and a lattice that meets every row and column, whose weights are the number of
        cells that each stands for: a stratified sample of all of them.
        """
        candidates = [
            np.setdiff1d(b, a) if refined else a
            for a, b, refined in zip(self.nodes, self.finer, self.refined, strict=True)
        ]
        if not any(self.refined):
            return {}
        indices = list(itertools.product(*(range(len(c)) for c in candidates)))
        starts = list(map(np.searchsorted, candidates, self.anchor))
        steps = np.array(indices) - starts
        near: Mask = np.all((steps >= -NEAR) & (steps < NEAR), axis=1)
        if len(indices) <= ALL_TESTED:
            near[:] = True
        # (1, 2) modulo 5 are the moves of a knight: no two of a lattice are neighbours.
        lattice = ~near & (steps @ 2 ** np.arange(len(starts)) % SHARE == 0)
        weight = float((~near).sum() / max(1, lattice.sum()))
        return {
            tuple(int(c[i]) for c, i in zip(candidates, index, strict=True)): (
                1.0 if near[number] else weight
            )
            for number, index in enumerate(indices)
            if near[number] or lattice[number]
        }

    def cells_touching(self, bad_nodes: Mask, bad_places: Sequence[Place]) -> Mask:
        """Cells with a corner among some nodes or a place inside, and their neighbours.

        Args:
            bad_nodes: shape (n of the first axis, n of the second, ...).
            bad_places: indices into the coordinates.

        Returns:
            Shape (c of the first axis, c of the second, ...).
        """
        cells = bad_nodes
        for axis, refined in enumerate(self.refined):
            if refined:
                along = np.moveaxis(cells, axis, 0)
                cells = np.moveaxis(along[:-1] | along[1:], 0, axis)
        cells = cells.copy()
        for place in bad_places:
            cells[self._cell(place)] = True
        for axis in range(cells.ndim):
            along = np.moveaxis(cells.copy(), axis, 0)
            near = np.moveaxis(cells, axis, 0)
            near[1:] |= along[:-1]
            near[:-1] |= along[1:]
        return cells

    def places_in(self, cells: Mask) -> Mask:
        """Coordinates in some cells or at their borders, one dimension for each axis.

        Args:
            cells: shape (c of the first axis, c of the second, ...).
        """
        inside = cells
        for axis, nodes in enumerate(self.nodes):
            along = np.moveaxis(inside, axis, 0)
            left, right = self._sides(axis, np.arange(nodes[-1] + 1))
            inside = np.moveaxis(along[left] | along[right], 0, axis)
        return inside

    def _cell(self, place: Place) -> Place:
        sides = (self._sides(axis, np.array(at)) for axis, at in enumerate(place))
        return tuple(int(right) for _, right in sides)

    def _sides(self, axis: int, at: Indices) -> tuple[Indices, Indices]:
        """The cells left and right of coordinates; inside of a cell both are it."""
        nodes, last = self.nodes[axis], len(self.nodes[axis]) - 2
        if not self.refined[axis]:
            here = np.searchsorted(nodes, at)
            return here, here
        left = np.searchsorted(nodes, at, "left") - 1
        right = np.searchsorted(nodes, at, "right") - 1
        return left.clip(0, last), right.clip(0, last)
