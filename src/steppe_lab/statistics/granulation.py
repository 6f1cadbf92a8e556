"""Kendall's tau along each hyper-parameter, and its mean, the granulated coefficient.

A slice has the configurations that differ in one hyper-parameter alone. Its tau is free
of the effects of all others; the mean over slices is psi of the hyper-parameter, and
the mean of those the granulated coefficient Psi.

Source: Jiang et al., 2020, arXiv:1912.02178, Equations 6 and 7.

Differences: tau-b in place of tau, so that ties count as no pairs; a slice in which one
of the values does not vary has none and is left out; psi and Psi have intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steppe_lab.statistics.concordance import ranks, sums_inside, tau_of
from steppe_lab.statistics.correlation import check_level
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.jackknife import NONE, Ends, of_agreement, of_mean
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import (
    Floats,
    Table,
    Whole,
    check_names,
    complete,
    joined,
)


@dataclass(frozen=True, kw_only=True)
class FactorTau(AbstractStatistic):
    """Mean over slices of the tau along one hyper-parameter, -1 to 1."""

    factor: str
    slices: int  # with a tau
    empty: int  # without one: one level, or a value that does not vary


@dataclass(frozen=True, kw_only=True)
class Granulated(AbstractStatistic):
    """Mean over hyper-parameters (`value`, Psi) of the taus along each."""

    factors: Mapping[str, FactorTau]

    def __str__(self) -> str:
        lines = [f"{name} {each}" for name, each in self.factors.items()]
        return "\n".join([f"Psi {self:.3f}", *lines])


@dataclass(frozen=True)
class _Slices:
    """Slices along one factor."""

    of: Whole  # slice of each configuration, shape (C,)
    taus: Floats  # (slices,), NaN where there is none

    @property
    def known(self) -> int:
        return int(np.isfinite(self.taus).sum())

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.taus)) if self.known else math.nan

    @property
    def influences(self) -> Floats:
        """Parts of the slices in the error of the mean, shape (slices,)."""
        parts: Floats = np.nan_to_num(self.taus - self.mean) / max(self.known, 1)
        return parts

    @property
    def variance(self) -> float:
        """Of the mean; slices along one factor share no configuration."""
        whole = float(np.square(self.influences).sum())
        return whole * self.known / (self.known - 1) if self.known > 1 else math.nan


def granulated(
    table: Table,
    measure: str,
    gap: str,
    factors: Sequence[str],
    *,
    seed: str | None = None,
    level: float = LEVEL,
) -> Granulated:
    """Tau along each hyper-parameter, all others fixed, and the mean of these.

    Intervals are over slices, by Student's t. Slices along unlike hyper-parameters can
    share one configuration, which the error of Psi allows for.

    A hyper-parameter in place of the measure gives its tau with the gap, all others
    fixed: `granulated(table, "lr", "gap", factors).factors["lr"]`.

    Args:
        table: columns by name.
        measure: column of numbers; rows without a value are left out.
        gap: column of numbers, likewise.
        factors: columns of the hyper-parameters; rows alike in all are one
            configuration.
        seed: column of the seed. Slices then have one seed each; where none is given,
            values are averaged over the rows of a configuration first, as in the paper.
        level: coverage of the intervals, 0 to 1.

    Raises:
        DataError: no such column, or a text among numbers.
        SettingError: a level out of range.

    Example:
        >>> table = {"lr": [1, 1, 2, 2], "width": [4, 8, 4, 8]}
        >>> table |= {"m": [1.0, 2.0, 3.0, 4.0], "gap": [2.0, 1.0, 4.0, 3.0]}
        >>> made = granulated(table, "m", "gap", ["lr", "width"])
        >>> made.value, {name: tau.value for name, tau in made.factors.items()}
        (0.0, {'lr': 1.0, 'width': -1.0})
    """
    check_level(level)
    check_names(factors)
    named = [*factors, *([seed] if seed else [])]
    rows = complete(table, [measure, gap], named, cluster=factors)
    codes = {name: rows.factors[name].codes for name in named}
    of = joined([codes[name] for name in named]) if named else rows.clusters
    counts = np.bincount(of) if len(of) else np.zeros(0)
    x, y = (np.bincount(of, rows.numbers[n]) / counts for n in (measure, gap))
    _, first = np.unique(of, return_index=True)
    slices = {}
    for factor in factors:
        others = [codes[name][first] for name in named if name != factor]
        place = joined(others) if others else np.zeros(len(first), dtype=np.int64)
        total = int(place.max(initial=-1)) + 1
        sums = sums_inside(ranks(x), ranks(y), place, total)
        slices[factor] = _Slices(place, tau_of(sums))
    taus = {
        name: _of_factor(name, each, len(rows), rows.count, level)
        for name, each in slices.items()
    }
    value, ends = _mean(slices, level)
    missing = [name for name, each in slices.items() if not each.known]
    notes = [f"{name} has no slice with a tau and is left out." for name in missing]
    return Granulated(
        value=value,
        low=ends.low,
        high=ends.high,
        level=level,
        p=ends.p,
        rows=len(rows),
        clusters=rows.count,
        notes=(*rows.notes, *notes),
        factors=taus,
    )


def _of_factor(
    name: str, slices: _Slices, rows: int, clusters: int, level: float
) -> FactorTau:
    value, count = slices.mean, slices.known
    if not count:
        ends = NONE
    elif abs(value) == 1:
        ends = of_agreement(value, count, level)
    else:
        error = math.sqrt(slices.variance) if count > 1 else 0.0
        ends = of_mean(value, error, count - 1, level, -1.0, 1.0)
    return FactorTau(
        value=value,
        low=ends.low,
        high=ends.high,
        level=level,
        p=ends.p,
        rows=rows,
        clusters=clusters,
        factor=name,
        slices=count,
        empty=len(slices.taus) - count,
    )


def _mean(slices: Mapping[str, _Slices], level: float) -> tuple[float, Ends]:
    """Psi and its interval."""
    known = [each for each in slices.values() if each.known]
    if not known:
        return math.nan, NONE
    value = float(np.mean([each.mean for each in known]))
    fewest = min(each.known for each in known)
    if abs(value) == 1:
        return value, of_agreement(value, fewest, level)
    if fewest < 2:
        return value, Ends(-1.0, 1.0, 1.0)
    own = sum(each.variance for each in known)
    # Two slices that cross share one configuration, and so a part of their errors.
    parts = np.stack([each.influences[each.of] for each in known])
    shared = float(np.square(parts.sum(axis=0)).sum() - np.square(parts).sum())
    error = math.sqrt(own + max(shared, 0.0)) / len(known)
    return value, of_mean(value, error, fewest - 1, level, -1.0, 1.0)
