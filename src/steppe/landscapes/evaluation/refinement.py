"""A grid evaluated level by level, until a spline meets the points that are left out.

The error is measured, not assumed: points that a spline has not seen are evaluated and
compared with it, level after level, until their error is below a tolerance; the points
that were asked for and not evaluated are interpolated. A surface that no spline meets
is evaluated at all points, none of them twice.

Shape letters: n nodes of a level along an axis, T points that a spline is tested at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from steppe.landscapes.evaluation.grid import Grid, Place
from steppe.landscapes.evaluation.grid_values import (
    LOSS,
    MEAN,
    RISE_STDERR,
    STDERR,
    SUBSET_STDERR,
    Column,
    GridValues,
)
from steppe.landscapes.evaluation.levels import Level, Mask, levels_of
from steppe.surfaces.interpolation import Array, interpolated

FEW = 25  # points of a grid that are all evaluated
FEWEST_TESTS = 8  # that a level is judged by
# A smaller range, relative to the values, is rounding error.
LEAST_RANGE = 1e-3


@dataclass(frozen=True)
class Check:
    """Errors of a spline at points that it has not seen.

    They are relative to the range of the values; those of a loss that is positive
    everywhere to the loss itself, where it is smaller than the range.
    """

    rms: float
    largest: float
    logarithm: bool  # whether the spline goes through the logarithms


@dataclass(frozen=True)
class Refined:
    """The level whose spline gives the points that were not evaluated."""

    level: Level
    checks: dict[Column, Check]  # of the loss and all quantities beside it
    tests: int  # number T of points that the errors are over

    def details(self, tolerance: float, values: GridValues) -> dict[str, Any]:
        """As the details of a surface have it."""
        errors = {
            name: {"rms": check.rms, "max": check.largest}
            for (name, _), check in self.checks.items()
        }
        return {
            "evaluated": int(values.known.sum()),
            "nodes": tuple(map(len, self.level.nodes)),
            "tests": self.tests,
            "relative_error": errors,
            "tolerance": tolerance,
            "scale": "logarithm" if self.checks[LOSS].logarithm else "loss",
        }


def refine(values: GridValues, tolerance: float) -> Refined | None:
    """Evaluate a grid level by level until the tolerance is met; interpolate the rest.

    Args:
        values: of the grid, which evaluate its places.
        tolerance: of the root mean square of the relative errors, of each quantity.

    Returns:
        The level that met the tolerance; None where all points were evaluated.
    """
    everywhere = values.grid.places()
    values.plan(everywhere)
    levels = [] if len(everywhere) <= FEW else levels_of(values.grid)
    for level in levels[:-1]:
        values.evaluate(level.places())
        tests = level.tests()
        values.evaluate(list(tests))
        unsound = _unsound_cells(values, level, list(tests))
        outside = ~level.places_in(unsound)
        sound = {place: weight for place, weight in tests.items() if outside[place]}
        if len(sound) < FEWEST_TESTS:
            continue
        checks = {
            column: _check(values, column, level, sound) for column in _means(values)
        }
        if all(check.rms <= tolerance for check in checks.values()):
            # No spline crosses points without a value: what lies beside is evaluated.
            beside = [tuple(map(int, place)) for place in np.argwhere(~outside)]
            values.plan(beside)
            values.evaluate(beside)
            refined = Refined(level, checks, len(sound))
            if not values.known.all():
                _interpolate(values, refined)
                return refined
            return None
    values.evaluate(everywhere)
    return None


@np.errstate(divide="ignore", invalid="ignore")
def _interpolate(values: GridValues, refined: Refined) -> None:
    level, targets = refined.level, values.grid.coordinates
    # The loss comes first: errors relative to it are smoother than the errors.
    for column, numbers in values.columns.items():
        check = refined.checks.get(column)
        logarithm = check is not None and check.logarithm
        scale = _scale(values, column)
        relative = numbers / scale
        if not np.isfinite(_nodes(relative, level)).any():
            relative, scale = numbers, 1.0
        spline = _spline(values.grid, relative, level, targets, logarithm=logarithm)
        # A spline may go below 0 between the nodes, a standard error may not.
        values.fill(column, scale * (spline if column[1] == MEAN else spline.clip(0)))


def _scale(values: GridValues, column: Column) -> Array | float:
    """A factor that a standard error is nearly proportional to; 1 for all else."""
    loss = values.columns[LOSS]
    if column == ("loss", RISE_STDERR):
        # At the base point it is 0, with a corner that no spline meets.
        grid = values.grid
        axes = zip(grid.coordinates, grid.origin, grid.widths, strict=True)
        squares = [((np.array(c) - base) / width) ** 2 for c, base, width in axes]
        return np.sqrt(reduce(np.add.outer, squares)) * values.columns["loss", STDERR]
    errors = ("loss", STDERR), ("loss", SUBSET_STDERR)
    return loss if column in errors and not (loss <= 0).any() else 1.0


def _means(values: GridValues) -> list[Column]:
    """The loss, and quantities that have a value anywhere."""
    return [
        column
        for column, numbers in values.columns.items()
        if column == LOSS or (column[1] == MEAN and np.isfinite(numbers).any())
    ]


def _unsound_cells(values: GridValues, level: Level, tests: Sequence[Place]) -> Mask:
    """Cells with values that are not finite, and their neighbours."""
    means = np.stack([values.columns[column] for column in _means(values)])
    finite: Mask = np.all(np.isfinite(means), axis=0)
    nodes = finite[np.ix_(*level.nodes)]
    return level.cells_touching(~nodes, [place for place in tests if not finite[place]])


def _check(
    values: GridValues, column: Column, level: Level, tests: Mapping[Place, float]
) -> Check:
    """The errors of the spline of a quantity; of two scales the better one."""
    at = tuple(np.array(list(tests)).T)
    weights = list(tests.values())
    numbers = values.columns[column]
    true = numbers[at]
    seen = np.concatenate([true, _nodes(numbers, level).ravel()])
    seen = seen[np.isfinite(seen)]
    with np.errstate(over="ignore"):
        reach = min(np.ptp(seen), np.finfo(np.float64).max)
    scale = max(reach, LEAST_RANGE * np.abs(seen).max()) or 1.0
    positive = column == LOSS and bool((seen > 0).all())
    relative_to = np.minimum(true, scale) if positive else scale
    # On the coordinates of the tests alone, which are fewer than those of the grid.
    axes = [np.unique(indices) for indices in at]
    where = tuple(map(np.searchsorted, axes, at))
    targets = [
        np.take(along, indices)
        for along, indices in zip(values.grid.coordinates, axes, strict=True)
    ]
    checks = []
    for logarithm in (True, False) if positive else (False,):
        spline = _spline(values.grid, numbers, level, targets, logarithm=logarithm)
        with np.errstate(over="ignore"):  # an infinite error meets no tolerance
            errors = np.abs(spline[where] - true) / relative_to
            rms = float(np.sqrt(np.average(errors**2, weights=weights)))
        checks.append(Check(rms, float(errors.max()), logarithm))
    return min(checks, key=lambda check: check.rms)


def _spline(
    grid: Grid,
    numbers: Array,
    level: Level,
    targets: Sequence[Any],
    *,
    logarithm: bool,
) -> Array:
    """Numbers at the grid of some targets, by the spline of a level."""
    through = _nodes(numbers, level)
    finite = np.isfinite(through)
    if not finite.any():  # such as the standard errors of a single sample
        return np.full([len(along) for along in targets], through.flat[0])
    nodes = [
        np.take(along, indices)
        for along, indices in zip(grid.coordinates, level.nodes, strict=True)
    ]
    smooth = _without_gaps(through, finite)
    if not logarithm:
        return interpolated(smooth, nodes, targets)
    with np.errstate(over="ignore"):  # a spline may go beyond the values, also far
        return np.exp(interpolated(np.log(smooth), nodes, targets))


def _nodes(numbers: Array, level: Level) -> Array:
    return numbers[np.ix_(*level.nodes)]


def _without_gaps(values: Array, finite: Mask) -> Array:
    """Values with means of neighbours in the place of those that are not finite.

    They keep the spline smooth and are felt a few cells away at most, where the tests
    see it; the cells beside them are evaluated.
    """
    values, known = np.where(finite, values, 0.0), finite.copy()
    while not known.all():
        sums, counts = np.zeros_like(values), np.zeros(values.shape)
        for total, parts in ((sums, values), (counts, known)):
            for axis in range(values.ndim):
                to, part = np.moveaxis(total, axis, 0), np.moveaxis(parts, axis, 0)
                to[1:] += part[:-1]
                to[:-1] += part[1:]
        fresh = ~known & (counts > 0)
        values[fresh] = sums[fresh] / counts[fresh]
        known |= fresh
    return values
