"""The place where a function of a positive number first meets a level.

Secant steps in logarithms, which are exact for a power law, between ends that enclose
the crossing. Source of secants within a bracket: Dekker, 1969, Finding a Zero by Means
of Successive Linear Interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

LONGEST = 30.0  # factor of a step while the crossing is not enclosed
SLOPES = (0.25, 64.0)  # of a secant at least and at most, so that no step is lost
APART = 1.1  # factor between the two points that a slope is taken of


@dataclass(frozen=True)
class Crossing:
    """Where a level was met.

    Attributes:
        at: the place; 0 or infinite where the function does not meet the level.
        last: the place nearest to it at which the function was evaluated.
        slope: derivative of the logarithm of the function by that of its argument.
        evaluations: of the function.
        converged: the function was within the tolerance at `last`.
    """

    at: float
    last: float
    slope: float
    evaluations: int
    converged: bool


def crossing(
    function: Callable[[float], float],
    level: float,
    start: float,
    *,
    low: float,
    high: float,
    tol: float = 1e-3,
    max_evaluations: int = 60,
) -> Crossing:
    """Find where a function that is below a level near 0 meets it.

    Args:
        function: of a positive number; a value that is not finite counts as above.
        level: positive.
        start: where to evaluate it first.
        low: the least place to look at.
        high: the largest one.
        tol: allowed difference of the function and the level, as a share of it.
        max_evaluations: of the function, at least 2.

    Example:
        >>> met = crossing(lambda x: 3 * x**2, 0.12, 1.0, low=1e-9, high=1e9)
        >>> round(met.at, 12), round(met.slope, 12), met.evaluations
        (0.2, 2.0, 2)
    """
    seen: dict[float, float] = {}
    below, above = 0.0, math.inf
    x, best, halvings = min(max(start, low), high), math.nan, 0
    # A place that comes back would come back for ever: the function is not monotone.
    while len(seen) < max_evaluations and x not in seen:
        seen[x] = value = function(x)
        if value < level:
            below = max(below, x)
        else:
            above = min(above, x)
        if _off(seen, x, level) <= _off(seen, best, level):
            best = x
        if _off(seen, best, level) <= tol and len(seen) > 1:
            slope = _slope(seen, best)
            at = best * math.pow(level / seen[best], 1 / slope)
            return Crossing(at, best, slope, len(seen), True)
        if below >= high:
            return Crossing(math.inf, x, math.nan, len(seen), True)
        if above <= low:
            return Crossing(0.0, x, math.nan, len(seen), True)
        enclosed = below > 0 and above < math.inf
        width = above / below if enclosed else math.inf
        if enclosed and width < 1 + 4e-16:
            break  # a jump over the level
        wanted = _next(seen, x, best, level)
        if enclosed:
            # Secants from one side alone may creep: every third step halves.
            halvings += 1
            inside = below < wanted < above
            x = wanted if inside and halvings % 3 else math.sqrt(below * above)
        else:
            x = min(max(wanted, low), high)
            if x in seen:  # a secant that leads nowhere
                x = min(max(x * LONGEST if value < level else x / LONGEST, low), high)
    return Crossing(best, best, _slope(seen, best), len(seen), False)


def _off(seen: dict[float, float], x: float, level: float) -> float:
    """Difference from the level as a share of it; infinite where nothing was seen."""
    value = seen.get(x, math.nan)
    return abs(value / level - 1) if math.isfinite(value) else math.inf


def _next(seen: dict[float, float], x: float, best: float, level: float) -> float:
    """The place that a power law through the best points leads to."""
    value = seen[x]
    if not math.isfinite(value):
        return x / LONGEST
    if value <= 0 or not seen[best] > 0:
        return x * 4
    if len(seen) == 1 and abs(value / level - 1) < APART - 1:
        # The second point is to be far enough for a slope.
        return x * (APART if value < level else 1 / APART)
    wanted = best * math.pow(level / seen[best], 1 / _slope(seen, best))
    return min(max(wanted, x / LONGEST), x * LONGEST)


def _slope(seen: dict[float, float], best: float) -> float:
    """Of the secant through the best point and the nearest other; else that of x^2."""
    others = [
        x
        for x, value in seen.items()
        if x != best and math.isfinite(value) and value > 0
    ]
    if not others or not seen.get(best, 0.0) > 0:
        return 2.0
    other = min(others, key=lambda x: abs(math.log(x / best)))
    rise = math.log(seen[other] / seen[best])
    return min(max(rise / math.log(other / best), SLOPES[0]), SLOPES[1])
