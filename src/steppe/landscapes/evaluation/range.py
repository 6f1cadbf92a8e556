"""Ranges of axes that show the basin around the base point, and its walls.

The range of an axis ends where the loss, on the steeper side, is ten times that of the
base point. It is sought from both sides of the axis at growing or shrinking distances,
by the power law through the last two of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steppe.errors import SettingError, check_count
from steppe.landscapes.evaluation.evaluator import Evaluator, Progress
from steppe.landscapes.evaluation.grid import COUNT, Coordinates, Grid, grid_of
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.surfaces.surface import letters_of

Along = Coordinates | Literal["auto"] | tuple[Literal["auto"], int] | None

AUTO = "auto"
LEVELS = (1.01, 3.0, 10.0)  # of the loss, relative to that of the base point
SLACK = 1.3  # factor of the last rise that is near enough
STEPS = 6  # distances that are tried, each on both sides
FARTHEST = 64.0  # of them, in units of the axis' own range
FACTOR = 32.0  # from one distance to the next, at most
BLIND = 8.0  # the same where there is no finite rise to go by
# A loss of zero has no multiples: a rise of its error, or of this, stands for it.
LEAST = 1e-3


@dataclass(frozen=True)
class Sought:
    """An automatic range, and the distances at which the loss crosses levels."""

    end: float  # the range is from -end to end
    crossings: dict[float, float | None]  # by level; None where it is not reached
    evaluations: int

    def details(self) -> dict[str, Any]:
        """As the details of a surface have it."""
        named = {f"{level:g}": place for level, place in self.crossings.items()}
        return {"crossings": named, "evaluations": self.evaluations}


class Ranges:
    """The coordinates of a surface, of which some are sought.

    Args:
        subspace: of the surface.
        xyz: coordinates along the first axes; see `grid_of`.
        axes: the same along every axis, in the place of `xyz`; or None.

    Raises:
        SettingError: coordinates that are none, or "auto" along an axis with networks.
    """

    def __init__(
        self, subspace: Subspace, xyz: Sequence[Any], axes: Sequence[Any] | None
    ) -> None:
        several = isinstance(axes, list | tuple)
        given = axes if several and axes is not None else xyz
        self.details: dict[str, Any] = {}
        self._subspace = subspace
        self._counts = {k: _count(a) for k, a in enumerate(given) if is_auto(a)}
        self._rest = (list(xyz), axes)
        letters = letters_of(len(subspace.axes))
        for k, axis in enumerate(subspace.axes):
            low, high = axis.range
            if k in self._counts and not math.isclose(-low, high):
                raise SettingError(
                    f"{letters[k]}='auto' needs an axis around the base point, such as "
                    f"that of a random line; give {letters[k]}=(start, stop, count): "
                    f"this one has networks from {low:g} to {high:g}."
                )
        self._grid = self._with({k: subspace.axes[k].range[1] for k in self._counts})

    def grid(
        self, evaluator: Evaluator, progress: Callable[[], Progress | None]
    ) -> Grid:
        """The grid, after ranges were sought where it was asked for.

        Args:
            evaluator: of the surface.
            progress: gives that of the next evaluations.
        """
        if not self._counts:
            return self._grid
        letters = letters_of(len(self._subspace.axes))
        sought = {k: sought_range(evaluator, k, progress) for k in self._counts}
        self.details = {
            "auto": {letters[k]: each.details() for k, each in sought.items()}
        }
        return self._with({k: each.end for k, each in sought.items()})

    def _with(self, ends: Mapping[int, float]) -> Grid:
        xyz, axes = self._rest
        if not ends:
            return grid_of(self._subspace, xyz, axes)
        filled = list(xyz if axes is None else axes)
        for k, end in ends.items():
            if k < len(filled):
                filled[k] = (-end, end, self._counts[k])
        if axes is None:
            return grid_of(self._subspace, filled, None)
        return grid_of(self._subspace, xyz, filled)


def is_auto(along: Any) -> bool:
    """Whether coordinates are to be sought."""
    named = isinstance(along, tuple) and len(along) == 2 and along[0] == AUTO
    return named or (isinstance(along, str) and along == AUTO)


def _count(along: Any) -> int:
    if isinstance(along, str):
        return COUNT
    check_count('the count of ("auto", count)', along[1], 2)
    return int(along[1])


def sought_range(
    evaluator: Evaluator, axis: int, progress: Callable[[], Progress | None]
) -> Sought:
    """The range of an axis that ends where the loss is ten times as high.

    A loss that is not finite counts as above all levels. Where ten times is not reached
    within 64 times the axis' own range, the range ends at the highest level that is; at
    its own end where none is.

    Args:
        evaluator: of the points.
        axis: its number.
        progress: gives that of the next evaluations.
    """
    subspace = evaluator.subspace
    own = subspace.axes[axis].range[1]

    def losses(places: Sequence[float]) -> list[float]:
        points: list[Point] = [
            tuple(place if k == axis else 0.0 for k in range(len(subspace.axes)))
            for place in places
        ]
        return [each.loss for each in evaluator.evaluate(points, progress())]

    (base,) = evaluator.evaluate([subspace.origin], progress())
    error = base.stderr if math.isfinite(base.stderr) else 0.0
    scale = max(abs(base.loss), error, LEAST)
    rises: dict[float, float] = {}  # of the steeper side, relative to the scale
    distance, wanted = own, LEVELS[-1] - 1
    for _ in range(STEPS):
        sides = losses([-distance, distance])
        rises[distance] = max(
            (side - base.loss) / scale if math.isfinite(side) else math.inf
            for side in sides
        )
        if wanted / SLACK <= rises[distance] <= wanted * SLACK:
            break
        following = _following(rises, wanted)
        if following > FARTHEST * own:
            break
        distance = following
    crossings = {level: _crossing(rises, level - 1) for level in LEVELS}
    reached = [place for place in crossings.values() if place is not None]
    end = max(reached, default=own)
    return Sought(_rounded(end), crossings, 1 + 2 * len(rises))


def _following(rises: dict[float, float], wanted: float) -> float:
    """The next distance to try: within those on both sides, or beyond the last."""
    below = max((d for d, rise in rises.items() if rise < wanted), default=None)
    above = min((d for d, rise in rises.items() if rise >= wanted), default=None)
    if below is None or above is None:
        known = above if below is None else below
        assert known is not None
        rise = rises[known]
        if not 0 < rise < math.inf:
            return known / BLIND if below is None else known * BLIND
        # Near a minimum a rise is quadratic.
        factor = math.sqrt(wanted / rise)
        return float(known * min(max(factor, 1 / FACTOR), FACTOR))
    guess = _on_power_law(below, above, rises, wanted)
    # Not at an end again: a share of a tenth of the way, on a logarithmic scale.
    tenth = (above / below) ** 0.1
    return float(min(max(guess, below * tenth), above / tenth))


def _crossing(rises: dict[float, float], wanted: float) -> float | None:
    """The distance of the first crossing of a rise, by power laws between distances.

    Below the nearest distance the rise is taken as quadratic, and so it is beyond the
    farthest, where the level is almost reached there.
    """
    before: float | None = None
    for distance in sorted(rises):
        rise = rises[distance]
        if rise >= wanted:
            if before is not None:
                return _on_power_law(before, distance, rises, wanted)
            return (
                distance * math.sqrt(wanted / rise) if math.isfinite(rise) else distance
            )
        before = distance
    last = max(rises)
    near = rises[last] >= wanted / SLACK
    return last * math.sqrt(wanted / rises[last]) if near else None


def _on_power_law(
    below: float, above: float, rises: dict[float, float], wanted: float
) -> float:
    low, high = rises[below], rises[above]
    if low <= 0 or not math.isfinite(high):
        return math.sqrt(below * above)
    share = math.log(wanted / low) / math.log(high / low)
    return float(below * (above / below) ** share)


def _rounded(value: float) -> float:
    """Two digits: an end that figures can name."""
    return float(f"{value:.2g}")
