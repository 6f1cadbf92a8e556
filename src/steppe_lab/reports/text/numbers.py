"""Numbers as people read them.

A minus is the sign −, thousands have commas, and a number has about as many digits as
its doubt allows.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

from steppe_lab.statistics.intervals import Interval

_LOPSIDED = 0.25  # of half an interval: beyond, ± would mislead
_ROUNDING = 1e-12  # relative; what is nearer is equal
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits.

    Example:
        >>> number(0.19191), number(12345.6), number(-0.5, 1), number(0.0000412)
        ('0.192', '12,346', '−0.5', '4.12 × 10⁻⁵')
    """
    if not math.isfinite(value):
        return "not finite"
    size = _magnitude(value)
    if value != 0 and not -4 <= size < 6:
        return f"{_fixed(value / 10.0**size, digits - 1)} × 10{_raised(size)}"
    return _fixed(value, digits - 1 - size) if value else "0"


def points(share: float) -> str:
    """A share in percentage points, without the word.

    Example:
        >>> points(0.0433), points(-0.0021), points(0.0)
        ('4.3', '−0.21', '0')
    """
    hundredths = 100 * share
    if abs(hundredths) < 5e-3:
        return "0"
    return _fixed(hundredths, 1 if abs(hundredths) >= 0.95 else 2)


def percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.0433)
        '4.3 %'
    """
    return f"{points(share)} %"


class Ends(NamedTuple):
    """A mean and the ends of its interval, as texts; "" for an unknown end."""

    mean: str
    low: str
    high: str

    @property
    def both(self) -> str:
        """The ends alone, in words where one is not known."""
        # Lists of published numbers do not wait for torch.
        from steppe.results.tables import interval_text

        return interval_text(self.low, self.high)


def with_ends(
    interval: Interval, *, none: float = 0.0, share: bool = False, sign: int = 1
) -> Ends:
    """A difference or a ratio with digits that show which side of none it is on.

    Texts have as many places as tell both ends from each other and from `none`, so
    that 0.9996 to 0.9998 of something is not 1.0 to 1.0 of it.

    Args:
        interval: of the difference or ratio.
        none: the value that means no difference: 0, or 1 for a ratio.
        share: shown in percentage points, without the word.
        sign: -1 to show it turned round, as "below" asks for.

    Example:
        >>> with_ends(Interval(0.9997, 0.9996, 0.9998, 3), none=1.0)
        Ends(mean='0.9997', low='0.9996', high='0.9998')
        >>> with_ends(Interval(-0.07, -0.0948, -0.0452, 3), share=True, sign=-1)
        Ends(mean='7.0', low='4.5', high='9.5')
        >>> with_ends(Interval(0.2, -math.inf, math.inf, 1)).both
        'not known'
    """
    factor = sign * (100 if share else 1)
    low, high = sorted((factor * interval.low, factor * interval.high))
    mean, base = factor * interval.mean, factor * none
    ends = [end for end in (low, high) if math.isfinite(end)] or [mean]
    gaps = [abs(end - base) for end in ends] + [abs(ends[-1] - ends[0])]
    # Below, floating point itself cannot tell.
    seen = [gap for gap in gaps if gap > _ROUNDING * max(abs(base), 1e-300)]
    places = max((-_magnitude(gap) for gap in seen), default=0)
    show = _points if share else partial(_plain, least=2 if none else 3)
    texts = (show(value, places) for value in (low, high))
    return Ends(show(mean, places) or "not finite", *texts)


def _points(value: float, places: int) -> str:
    if not math.isfinite(value):
        return ""
    usual = 1 if abs(value) >= 0.95 else 2
    return _fixed(value, max(places, usual)) if value else "0"


def _plain(value: float, places: int, *, least: int) -> str:
    if not math.isfinite(value):
        return ""
    return number(value, max(least, places + 1 + _magnitude(value)))


def with_error(mean: float, error: float) -> str:
    """A mean ± its error, rounded to two digits of the error.

    An error is infinite where it is not known, as after one draw.

    Example:
        >>> with_error(0.12742, 0.1432), with_error(10.066, 0.0)
        ('0.13 ± 0.14', '10.1')
        >>> with_error(3.8e-6, 1e-6)
        '(3.8 ± 1.0) × 10⁻⁶'
        >>> with_error(0.12742, math.inf)
        '0.127 ± not known'
    """
    if math.isfinite(mean) and error == math.inf:
        # Lists of published numbers do not wait for torch.
        from steppe.results.tables import UNKNOWN

        return f"{number(mean)} {UNKNOWN}"
    if not (math.isfinite(mean) and math.isfinite(error)) or error <= 0:
        return number(mean)
    size = _magnitude(max(abs(mean), error))
    if not -4 <= size < 6:
        scaled = with_error(mean / 10.0**size, error / 10.0**size)
        return f"({scaled}) × 10{_raised(size)}"
    places = 1 - _magnitude(error)
    return f"{_fixed(mean, places)} ± {_fixed(error, places)}"


def mean_of(interval: Interval, share: bool) -> str:
    """A mean with half its interval, in percent for a share.

    Example:
        >>> mean_of(Interval(0.0427, 0.0238, 0.0616, 3), share=True)
        '4.3 ± 1.9 %'
        >>> mean_of(Interval(0.0, 0.0, 0.00383, 3), share=True)
        '0 % (0 to 0.38)'
    """
    if not share:
        # A column of means says once for how many runs they are.
        half = interval.half_width if math.isfinite(interval.half_width) else 0.0
        return with_error(interval.mean, half)
    mean, half = 100 * interval.mean, 100 * interval.half_width
    if not math.isfinite(half) or half == 0:
        return percent(interval.mean)
    lopsided = abs(interval.high - interval.mean - interval.half_width)
    if lopsided > _LOPSIDED * interval.half_width:
        ends = with_ends(interval, share=True)
        return f"{percent(interval.mean)} ({ends.both})"
    places = 1 if half >= 0.095 else 2
    return f"{_fixed(mean, places)} ± {_fixed(half, places)} %"


def one_or_more(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> one_or_more(1, "seed"), one_or_more(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" + ("" if count == 1 else "s")


def listed(items: list[str]) -> str:
    """Items with commas and a last "and".

    Example:
        >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _fixed(value: float, places: int) -> str:
    text = f"{value:,.{max(places, 0)}f}"
    if float(text.replace(",", "")) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _raised(exponent: int) -> str:
    return str(exponent).translate(_RAISED)
