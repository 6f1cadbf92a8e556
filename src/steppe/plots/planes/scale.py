"""The scale of colours and heights that several surfaces share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.errors import SettingError, check_positive, check_range
from steppe.plots.canvas import LOG_RANGE

LEVELS = 13  # of a contour plot at most, unless their distance is given
MANY = 200  # levels that no picture can show
DECADES = 12  # of a logarithmic scale at most
# Mantissas of levels within each decade, from the densest to a decade each.
_STEPS: tuple[tuple[float, ...], ...] = (
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)


@dataclass(frozen=True)
class Scale:
    """The range of values that colours stand for, and the levels in it."""

    low: float
    high: float
    log: bool
    levels: tuple[float, ...]  # ascending
    constant: bool = False  # all values are the same

    def heights(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values on the axis of heights: decades on a logarithmic one, else as is.

        On a logarithmic axis, those of at most 0 lie at its lower end.
        """
        if not self.log:
            return values
        with np.errstate(invalid="ignore"):
            # NaN stays: a maximum would keep it, and so does a comparison.
            positive = np.where(values <= self.low, self.low, values)
        return np.log10(positive)

    def few_levels(self, most: int = 7) -> list[float]:
        """Levels with numbers beside them: every second, or third, and so on."""
        return list(self.levels[:: max(1, math.ceil(len(self.levels) / most))])


def scale_of(
    values: Iterable[NDArray[np.float64]],
    *,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    may_be_log: bool = True,
) -> Scale:
    """The scale of all finite values.

    Args:
        values: of every surface.
        log: whether it is logarithmic; None where no value is negative and they span
            more than a factor of 30, unless `vlevel` is given.
        vmin: lower end; None for the least value.
        vmax: upper end; None for the largest value.
        vlevel: distance of the levels from `vmin` on; None for round numbers.
        may_be_log: False for quantities that are linear unless asked for.

    Raises:
        SettingError: ends that are not finite or in the wrong order, a distance that is
            not positive or makes more than 200 levels, or a logarithmic scale from 0.
    """
    check_scale(log, vmin, vmax, vlevel)
    flat = np.concatenate([np.ravel(each[np.isfinite(each)]) for each in values])
    within = flat[(flat >= (vmin if vmin is not None else -math.inf))]
    if log is None:
        log = may_be_log and vlevel is None and _wide(flat, vmin, vmax)
    # Without a positive value there is no logarithm.
    log = log and bool((flat > 0).any() or (vmin or 0) > 0)
    high = vmax if vmax is not None else float(flat.max(initial=-math.inf))
    if vmin is not None:
        low = vmin
    elif log:
        positive = flat[flat > 0]
        high_or_low = high if high > 0 else 1.0
        low = float(positive.min(initial=high_or_low))
        low = max(low, high_or_low * 10.0**-DECADES)
    else:
        low = float(flat.min(initial=math.inf))
    if not math.isfinite(low) or not math.isfinite(high):
        low, high = (0.0 if not math.isfinite(low) else low, 1.0)
    constant = bool(within.size) and float(np.ptp(flat)) == 0.0
    if low >= high:
        low, high = _around(low, high, log)
    if vlevel is not None:
        levels = _stepped(low, high, vlevel, from_zero=vmin is None)
    else:
        levels = log_levels(low, high) if log else linear_levels(low, high)
    return Scale(low, high, log, tuple(levels), constant)


def log_levels(low: float, high: float, most: int = LEVELS) -> list[float]:
    """Round levels within a range, evenly spread over its decades.

    Example:
        >>> log_levels(0.02, 30)
        [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _STEPS:
        # Text makes 3 * 10^-1 the number 0.3 itself.
        every = [float(f"{step:g}e{decade}") for decade in decades for step in steps]
        levels = [level for level in every if low <= level <= high]
        if len(levels) <= most:
            break
    else:
        levels = levels[:: math.ceil(len(levels) / most)]
    return levels if len(levels) > 2 else linear_levels(low, high, most)


def linear_levels(low: float, high: float, most: int = LEVELS) -> list[float]:
    """Multiples of a round step within a range.

    Example:
        >>> linear_levels(0.0, 1.0)
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    """
    rough = (high - low) / (most - 1)
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(s * decade for s in (1, 2, 2.5, 5, 10, 20) if s * decade >= rough)
    return _stepped(low, high, step, from_zero=True)


def _stepped(low: float, high: float, step: float, *, from_zero: bool) -> list[float]:
    if (high - low) / step > MANY:
        raise SettingError(
            f"vlevel must make at most {MANY} levels between {low:g} and {high:g}, got "
            f"{step:g}; give a larger one, or vmin and vmax."
        )
    # Sums round: an end that is a multiple is one within a small share of a step.
    start = step * math.ceil(low / step - 1e-9) if from_zero else low
    count = math.floor((high - start) / step + 1e-9) + 1
    levels = [float(f"{start + i * step:.12g}") for i in range(max(0, count))]
    return levels or [low]


def _wide(flat: NDArray[np.float64], vmin: float | None, vmax: float | None) -> bool:
    if not flat.size or flat.min() < 0:
        return False
    positive = flat[flat > 0]
    low = vmin if vmin is not None else float(positive.min(initial=math.inf))
    high = vmax if vmax is not None else float(flat.max())
    return low > 0 and high > LOG_RANGE * low


def _around(low: float, high: float, log: bool) -> tuple[float, float]:
    """A range around a single value, or around two in the wrong order."""
    middle = low if math.isfinite(low) else high
    if log:
        return middle / 1.5, middle * 1.5
    room = 0.05 * abs(middle) or 0.5
    return middle - room, middle + room


def check_scale(
    log: bool | None, vmin: float | None, vmax: float | None, vlevel: float | None
) -> None:
    """Refuse ends and distances that no scale has, whatever the values are.

    Raises:
        SettingError: ends that are not finite or in the wrong order, a distance that is
            not positive, or a logarithmic scale from 0.
    """
    for name, value in (("vmin", vmin), ("vmax", vmax)):
        if value is not None:
            check_range(name, value)
    if vlevel is not None:
        check_positive("vlevel", vlevel)
    if vmin is not None and vmax is not None and vmin >= vmax:
        raise SettingError(f"vmin must be < vmax, got {vmin:g} and {vmax:g}.")
    for name, end in (("vmin", vmin), ("vmax", vmax)):
        if log and end is not None and end <= 0:
            raise SettingError(
                f"{name} of a logarithmic scale must be > 0, got {end:g}; "
                "use log=False."
            )


def extension(scale: Scale, values: Sequence[NDArray[np.float64]]) -> str:
    """Ends that values lie beyond: "neither", "min", "max" or "both"."""
    flat = np.concatenate([np.ravel(each[np.isfinite(each)]) for each in values])
    below, above = bool((flat < scale.low).any()), bool((flat > scale.high).any())
    if below:
        return "both" if above else "min"
    return "max" if above else "neither"
