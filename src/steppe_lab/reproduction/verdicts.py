"""Verdicts on published numbers: ours and the published one as an equivalence test.

With d the difference of ours and the published number, h the half width of the 95 %
interval of d, and t the tolerance of the claim: reproduced where |d| + h <= t, not
reproduced where |d| - h > t, and within noise otherwise, where the interval holds
values on both sides of the tolerance. Reference: Schuirmann, 1987, A comparison of the
two one-sided tests procedure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from steppe_lab.reproduction.published import Published
from steppe_lab.statistics.intervals import Interval

Verdict = Literal[
    "reproduced",
    "not reproduced",
    "within noise",
    "published protocol differs",
    "not run at this scale",
    "not run",
    "no published number",
]
FULL = "full"  # the scale of published sizes, at which alone numbers are compared


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


def exactly(value: float) -> Interval:
    """A number without randomness, as an interval without width."""
    return Interval(value, value, value, 1)


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
    # The published number comes out, but not by the correct protocol.
    correct = _equivalence(published, ours.value, tolerance)
    return verdict if correct == "reproduced" else "published protocol differs"


def _equivalence(published: Published, ours: Interval, tolerance: float) -> Verdict:
    difference = abs(ours.mean - published.value)
    half = math.hypot(ours.half_width, published.half_width)
    if math.isnan(difference):
        return "not reproduced"
    if difference + half <= tolerance:
        return "reproduced"
    return "not reproduced" if difference - half > tolerance else "within noise"
