"""Differences of two networks in a measure, with their errors, from its estimates.

Shape letters: G groups, R repeats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from steppe.comparisons.jackknife import jackknife
from steppe.results import Cost, Difference, Estimate, joint_samples

Pair = tuple[Estimate, Estimate]


def difference(
    drawn: Sequence[Pair], without: Sequence[Pair], left_out: Tensor, level: float
) -> Difference:
    """The difference of the mean over repeats.

    Args:
        drawn: estimates of both networks with each of R sequences of draws, the first
            of which is that of the parts.
        without: the same without each of G groups of the data.
        left_out: size of each group as a share of the data, shape (G,).
        level: coverage of the intervals.
    """
    pairs = [*drawn, *without]
    refusals = [e.refusal for pair in pairs for e in pair if e.refusal]
    if not all(math.isfinite(e.value) for pair in pairs for e in pair):
        refusals.append("a value is not finite")
    a, b = (_mean(side) for side in zip(*drawn, strict=True))
    if refusals:
        return no_difference((a, b), level, refusals[0])
    positive = all(e.value > 0 for pair in pairs for e in pair)
    errors = _errors(drawn, without, left_out, _minus)
    total = dataclasses.replace(
        errors.total,
        # Of the parts too, which the error rests on.
        converged=all(e.converged for pair in pairs for e in pair),
        units=a.units if a.units == b.units else "",
    )
    ratios = _errors(drawn, without, left_out, _log_ratio) if positive else None
    return Difference(
        a=a,
        b=b,
        over_data=errors.over_data,
        over_draws=errors.over_draws,
        total=total,
        bias=errors.bias,
        log_ratio=ratios and ratios.total,
        level=level,
    )


def _minus(pair: Pair) -> float:
    return pair[0].value - pair[1].value


def _log_ratio(pair: Pair) -> float:
    return math.log(pair[0].value) - math.log(pair[1].value)


class _Errors(NamedTuple):
    over_data: Estimate
    over_draws: Estimate
    total: Estimate
    bias: float


def _errors(
    drawn: Sequence[Pair],
    without: Sequence[Pair],
    left_out: Tensor,
    quantity: Callable[[Pair], float],
) -> _Errors:
    """A quantity of pairs with its errors over data, draws and both."""
    repeats = torch.tensor(
        [quantity(pair) for pair in drawn], dtype=torch.float64, device="cpu"
    )
    parts = torch.tensor(
        [quantity(pair) for pair in without], dtype=torch.float64, device="cpu"
    )
    value, count = float(repeats.mean()), len(repeats)
    spread = float(repeats.std()) / count**0.5 if count > 1 else 0.0
    # Parts have the draws of the first repeat, so these cancel.
    bias, error = jackknife(float(repeats[0]), parts, left_out)
    data = Estimate(value=value, stderr=error, samples=len(parts))
    draws = Estimate(value=value, stderr=spread, samples=count if spread else 0)
    total = Estimate(
        value=value,
        stderr=math.hypot(error, spread),
        samples=joint_samples((data, draws)),
    )
    return _Errors(data, draws, total, bias)


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over repeats; the one estimate where they do not differ."""
    first = estimates[0]
    if all(estimate.value == first.value for estimate in estimates):
        return first
    count = len(estimates)
    return dataclasses.replace(
        first,
        value=sum(e.value for e in estimates) / count,
        stderr=math.hypot(*(e.stderr for e in estimates)) / count,
        samples=joint_samples(tuple(estimates)),
        converged=all(e.converged for e in estimates),
        cost=sum((e.cost for e in estimates), Cost()),
    )


def no_difference(pair: Pair, level: float, refusal: str = "") -> Difference:
    """The refusal of a measure, that of the first network that has one."""
    missing = Estimate(value=math.nan, stderr=math.nan, converged=False)
    reasons = [estimate.refusal for estimate in pair if estimate.refusal]
    return Difference(
        a=pair[0],
        b=pair[1],
        over_data=missing,
        over_draws=missing,
        total=missing,
        bias=math.nan,
        log_ratio=None,
        level=level,
        refusal=refusal or reasons[0],
    )
