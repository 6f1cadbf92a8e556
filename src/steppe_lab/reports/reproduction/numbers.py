"""Published numbers and ours as text, with as many places as are known or needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from steppe_lab.reports.text.numbers import number
from steppe_lab.reproduction.claims import AbstractClaim
from steppe_lab.reproduction.published import Published
from steppe_lab.statistics.intervals import Interval

MOST_PLACES = 15
BESIDE_BOUND = 3  # places of a number that is above or below a stated one


class Places(NamedTuple):
    """Places behind the point of published numbers, and of ours."""

    published: int
    ours: int


def places_of(numbers: Iterable[Published | None], tolerance: float) -> Places:
    """As many places as are published, and as a tolerance or a bound needs.

    Example:
        >>> places_of([Published(value=9.04), Published(value=10.0)], 0.3)
        Places(published=2, ours=2)
        >>> places_of([Published(value=0.5)], 0.005), places_of([], 0.0)
        (Places(published=1, ours=4), Places(published=0, ours=0))
        >>> places_of([Published(value=0.804147465437788)], 1e-15)
        Places(published=15, ours=15)
        >>> places_of([Published(value=1.0, bound="above")], 0.0)
        Places(published=0, ours=3)
    """
    known = [each for each in numbers if each is not None]
    needed = BESIDE_BOUND if any(each.bound for each in known) else 0
    if tolerance > 0:
        needed = min(max(1 - math.floor(math.log10(tolerance)), 0), MOST_PLACES)
    said = (_said(each.value) for each in known)
    published = min(max(said, default=0), max(needed, 2))
    return Places(published, max(published, needed))


def _said(value: float) -> int:
    """Places that a number is written with."""
    # Not of the nearest binary fraction, which has many more.
    digits = f"{Decimal(repr(value)):f}".partition(".")[2]
    return len(digits.rstrip("0"))


def value_text(value: float, places: int) -> str:
    """A number with so many places behind the point.

    Example:
        >>> value_text(9.0412, 2), value_text(-0.0312, 3), value_text(18.0, 0)
        ('9.04', '−0.031', '18')
    """
    if not math.isfinite(value):
        return "not finite"
    return f"{value:,.{places}f}".replace("-", "−")


def published_text(published: Published | None, places: Places) -> str:
    """A published number with half its interval and its runs, or the side of it."""
    if published is None:
        return "–"
    text = value_text(published.value, places.published)
    if published.bound:
        return f"{published.bound} {text}"
    if published.half_width:
        text += f" ± {value_text(published.half_width, places.published)}"
    return f"{text} ({published.runs})" if published.runs > 1 else text


def interval_text(interval: Interval | None, places: Places) -> str:
    """Our number with its interval and the seeds or samples that it rests on.

    Example:
        >>> interval_text(Interval(0.5, 0.25, 0.75, 3), Places(2, 2))
        '0.50 ± 0.25 (3)'
        >>> interval_text(Interval(-0.9, -1.0, -0.1, 3), Places(2, 2))
        '−0.90 [−1.00, −0.10] (3)'
        >>> interval_text(Interval(5.0, 0.0, math.inf, 2), Places(2, 2))
        '5.00 [above 0.00] (2)'
    """
    if interval is None:
        return "–"
    text = value_text(interval.mean, places.ours)
    half = interval.half_width
    if not math.isfinite(half) and interval.count > 1:
        text += f" [{_in_words(interval, places)}]"
    elif half and math.isfinite(half):
        below, above = (
            value_text(abs(end - interval.mean), places.ours)
            for end in (interval.low, interval.high)
        )
        ends = (value_text(e, places.ours) for e in (interval.low, interval.high))
        # Ends that are cut, and those of ratios, are not equally far from the mean.
        text += f" ± {below}" if below == above else f" [{', '.join(ends)}]"
    if interval.samples:
        return f"{text} ({interval.samples:,} samples)"
    exact = interval.count == 1 and math.isfinite(half)
    return text if exact else f"{text} ({interval.count})"


def _in_words(interval: Interval, places: Places) -> str:
    """The ends of an interval that has not both."""
    # Lists of published numbers do not wait for torch.
    from steppe.results.tables import interval_text

    low, high = (
        value_text(end, places.ours) if math.isfinite(end) else ""
        for end in (interval.low, interval.high)
    )
    return interval_text(low, high)


def tolerance_text(claim: AbstractClaim) -> str:
    """The tolerance of a claim with its units."""
    units = "points" if claim.quantity.units == "%" else claim.quantity.units
    units = "point" if units == "points" and claim.tolerance == 1 else units
    return f"{claim.tolerance:g} {units}".rstrip()


def count_text(count: float) -> str:
    """A large count with a word for its size.

    Example:
        >>> count_text(1234), count_text(2.5e9), count_text(math.nan)
        ('1,234', '2.5 × 10⁹', 'not known')
    """
    if not math.isfinite(count):
        return "not known"
    return f"{count:,.0f}" if count < 1e6 else number(count, 2)
