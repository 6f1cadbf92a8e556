"""Verdicts on published numbers: ours and the published one as an equivalence test.

With d the difference of ours and the published number, h the half width of the 95 %
interval of d, and t the tolerance of the claim: reproduced where |d| + h <= t, not
reproduced where |d| - h > t, and within noise otherwise, where the interval holds
values on both sides of the tolerance. Reference: Schuirmann, 1987, A comparison of the
two one-sided tests procedure, with a level of 2.5 % on each side.

The interval of d is Welch's. A published number without an interval is taken to spread
from run to run as ours do, so that h is that of a prediction. From one seed of ours no
spread is known: the verdict is "within noise", whatever the numbers are.

Where the published protocol is not the correct one, the published number is compared
with ours by that protocol. Is it reproduced so, and not reproduced by the correct one,
then the published protocol differs.

Where the source states a side of a value alone, such as a ratio above 1, it is
reproduced where our interval lies on that side, not reproduced where it lies on the
other one, and within noise where it holds the value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from steppe_lab.reproduction.published import NORMAL, SPREAD, Published, Quantity
from steppe_lab.statistics.intervals import LEVEL, Interval, student

Verdict = Literal[
    "reproduced",
    "published protocol differs",
    "within noise",
    "not reproduced",
    "no published number",
    "not run at this scale",
    "not run",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FULL = "full"  # the scale of published sizes, at which alone numbers are compared
MANY = 1e9  # degrees of freedom that stand for infinitely many
ROUNDING = 1e-9  # relative; numbers as near to the tolerance are at it


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Our numbers for a cell, in the units of its claim.

    Args:
        value: mean over seeds with its 95 % interval; None where there is none. An
            interval without width is that of a number without randomness.
        protocol: the same by the published protocol, where that is not the correct
            one; None where both are the same.
        why_not: the reason for which there is no value.
    """

    value: Interval | None = None
    protocol: Interval | None = None
    why_not: str = ""

    def cut(self, quantity: Quantity) -> Ours:
        """The same, without values that the quantity cannot have."""
        value, protocol = (
            None if each is None else quantity.cut(each)
            for each in (self.value, self.protocol)
        )
        return replace(self, value=value, protocol=protocol)


def exactly(value: float) -> Interval:
    """A number without randomness, as an interval without width."""
    return Interval(value, value, value, 1)


def sampled(value: float, stderr: float, samples: int) -> Interval:
    """A number of one network with the error of the samples that it is a mean over.

    Args:
        value: the number.
        stderr: its standard error; 0 makes it exact.
        samples: that it is a mean over.
    """
    half = NORMAL * stderr
    return Interval(value, value - half, value + half, 1, samples=samples)


def verdict_on(
    published: Published | None,
    ours: Ours,
    *,
    tolerance: float,
    comparable: bool,
) -> Verdict:
    """The verdict on a published number.

    Args:
        published: the number; None where the source states none.
        ours: our numbers.
        tolerance: the largest difference that counts as reproduced, in the same units.
        comparable: whether ours was made at the published size.
    """
    if ours.value is None:
        return "not run"
    if not comparable:
        return "not run at this scale"
    if published is None:
        return "no published number"
    by_protocol = ours.value if ours.protocol is None else ours.protocol
    verdict = _equivalence(published, by_protocol, tolerance)
    if verdict != "reproduced" or ours.protocol is None:
        return verdict
    # Noise alone is no difference of protocols.
    correct = _equivalence(published, ours.value, tolerance)
    return "published protocol differs" if correct == "not reproduced" else verdict


def difference(ours: Interval, published: Published) -> Interval:
    """Ours minus the published number, with its 95 % interval.

    Args:
        ours: a mean over seeds, an exact number, or one with a sampling error.
        published: the number.
    """
    mean = ours.mean - published.value
    error, freedom = _error_of(ours)
    if not math.isfinite(error):
        return Interval(mean, -math.inf, math.inf, ours.count)
    theirs, their_freedom = published.stderr, published.freedom
    if theirs == 0 and ours.count > 1:
        # One spread for both, which ours are the only estimate of.
        total = error * math.sqrt(1 + ours.count / published.runs)
        return student(mean, total, freedom, ours.count, LEVEL)
    total = math.hypot(error, theirs)
    if total == 0:
        return Interval(mean, mean, mean, ours.count)
    shares = (error / total) ** 4 / freedom + (theirs / total) ** 4 / their_freedom
    return student(mean, total, min(1 / max(shares, 1 / MANY), MANY), 1, LEVEL)


def _error_of(ours: Interval) -> tuple[float, float]:
    """The standard error of our number, and its degrees of freedom."""
    half = ours.half_width
    if ours.count < 2 or half == 0 or not math.isfinite(half):
        return half / NORMAL, SPREAD if ours.count < 2 else ours.count - 1
    unit = student(0.0, 1.0, ours.count - 1, ours.count, ours.level)
    return half / unit.half_width, ours.count - 1


def _equivalence(published: Published, ours: Interval, tolerance: float) -> Verdict:
    if published.bound:
        return _side(published, ours)
    interval = difference(ours, published)
    if math.isnan(interval.mean):
        return "not reproduced"
    away, half = abs(interval.mean), interval.half_width
    limit = tolerance + ROUNDING * max(tolerance, abs(published.value))
    if away + half <= limit:
        return "reproduced"
    return "not reproduced" if away - half > limit else "within noise"


def _side(published: Published, ours: Interval) -> Verdict:
    if math.isnan(ours.mean):
        return "not reproduced"
    above, below = ours.low > published.value, ours.high < published.value
    if not above and not below:
        return "within noise"
    return "reproduced" if above == (published.bound == "above") else "not reproduced"
