"""Numbers as people read them.

A minus is the sign −, thousands have commas, and a number has about as many digits as
its doubt allows.
"""

from __future__ import annotations

import math

from steppe_lab.statistics.intervals import Interval

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


def with_error(mean: float, error: float) -> str:
    """A mean ± its error, rounded to two digits of the error.

    Example:
        >>> with_error(0.12742, 0.1432), with_error(10.066, 0.0)
        ('0.13 ± 0.14', '10.1')
        >>> with_error(3.8e-6, 1e-6)
        '(3.8 ± 1.0) × 10⁻⁶'
    """
    if not math.isfinite(error) or error <= 0:
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
    """
    if not share:
        return with_error(interval.mean, interval.half_width)
    mean, half = 100 * interval.mean, 100 * interval.half_width
    if not math.isfinite(half) or half == 0:
        return percent(interval.mean)
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
