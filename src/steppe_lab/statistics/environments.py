"""Sign errors of a measure, by environment, and the worst of them.

An environment has the pairs of networks that differ in one hyper-parameter alone, which
has one of two values. The sign error is the share of pairs that measure and gap put in
opposite order. A measure that explains generalization has none in any environment; the
mean over all hides those in which it is always wrong.

Source: Dziugaite et al., 2020, arXiv:2010.11924, section 4; weights of pairs as in the
authors' code (nitarshan/robust-generalization-measures).

Differences: pairs with the same gap are left out, where the authors count one half;
errors have intervals over slices, which are the pairs that are alike in all else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steppe.errors import DataError, check_count, check_positive
from steppe_lab.statistics.correlation import check_level
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.jackknife import NONE, Ends, of_share
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import (
    Complete,
    Floats,
    Table,
    Whole,
    complete,
    joined,
    with_levels,
)

LEAST = 0.5  # weight of a pair that counts no more


@dataclass(frozen=True, kw_only=True)
class SignError(AbstractStatistic):
    """Share of pairs of one environment in the wrong order, 0 to 1."""

    factor: str
    left: Any  # the two levels of the factor
    right: Any
    pairs: int  # that count
    dropped: int  # whose gaps are alike, or too close for the test samples
    slices: int  # of pairs that are alike in all other factors

    @property
    def name(self) -> str:
        """Of the environment, such as `width 4→8`."""
        return f"{self.factor} {self.left}→{self.right}"


@dataclass(frozen=True)
class SignErrors(Mapping[str, SignError]):
    """Sign errors by the names of their environments."""

    environments: Mapping[str, SignError]
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> SignError:
        return self.environments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.environments)

    def __len__(self) -> int:
        return len(self.environments)

    @property
    def mean(self) -> float:
        """Over the environments with pairs; NaN without any."""
        known = [e.value for e in self.environments.values() if e.pairs]
        return float(np.mean(known)) if known else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Records of all environments by name, as JSON has them."""
        return {name: each.to_dict() for name, each in self.environments.items()}


def sign_error(
    table: Table,
    measure: str,
    gap: str,
    factors: Sequence[str],
    *,
    test_samples: int | None = None,
    scale: float = 100.0,
    level: float = LEVEL,
) -> SignErrors:
    """Sign errors of all environments.

    With n test samples a pair whose gaps differ by d has the weight

        max(0, w^2 - 1/2),  w = max(0, 1 - 2 exp(-n d^2 / 2)),

    where w is the probability, by Hoeffding's inequality, that the sign of d is right.

    Args:
        table: columns by name.
        measure: column of numbers; rows without a value are left out. A pair with the
            same measure counts as half an error.
        gap: column of numbers, likewise.
        factors: columns of the hyper-parameters. Rows that differ in the seed alone
            make pairs with all seeds of the other configuration.
        test_samples: that each gap was computed on. All pairs have the same weight
            where it is not given.
        scale: gap of a network that is wrong on all test samples and on none of those
            it was trained on: 100 for percentage points, 1 for shares.
        level: coverage of the intervals, 0 to 1.

    Raises:
        DataError: no such column, or a text among numbers.
        SettingError: a level, a scale or a number of samples out of range.

    Example:
        >>> table = {"lr": [1, 1, 2, 2], "width": [4, 8, 4, 8]}
        >>> table |= {"m": [1.0, 2.0, 3.0, 4.0], "gap": [2.0, 1.0, 4.0, 3.0]}
        >>> errors = sign_error(table, "m", "gap", ["lr", "width"])
        >>> {name: error.value for name, error in errors.items()}
        {'lr 1→2': 0.0, 'width 4→8': 1.0}
    """
    check_level(level)
    check_positive("scale", scale)
    if test_samples is not None:
        check_count("test_samples", test_samples, 1)
    rows = complete(table, [measure, gap], factors, cluster=factors)
    x, y = rows.numbers[measure], rows.numbers[gap]
    made = {}
    few, crowded = with_levels(rows.factors)
    for factor in few:
        others = [rows.factors[name].codes for name in factors if name != factor]
        slices = joined(others) if others else np.zeros(len(rows), dtype=np.int64)
        for one in _environments(
            rows, factor, slices, x, y, test_samples, scale, level
        ):
            made[one.name] = one
    return SignErrors(made, (*rows.notes, *crowded))


def worst_environment(
    table: Table,
    measure: str,
    gap: str,
    factors: Sequence[str],
    *,
    test_samples: int | None = None,
    scale: float = 100.0,
    level: float = LEVEL,
) -> SignError:
    """The environment with the largest sign error.

    It is chosen for its value, so that its interval is that of an environment named
    beforehand. See `sign_error` for the arguments.

    Raises:
        DataError: no environment has a pair that counts, or a column is refused.
        SettingError: a level, a scale or a number of samples out of range.
    """
    errors = sign_error(
        table,
        measure,
        gap,
        factors,
        test_samples=test_samples,
        scale=scale,
        level=level,
    )
    known = [each for each in errors.values() if each.pairs]
    if not known:
        raise DataError(
            "no two rows with unlike gaps differ in one factor alone; name the factors "
            f"that were varied one at a time, got {', '.join(factors) or 'none'}."
        )
    return max(known, key=lambda each: (each.value, each.pairs))


def hoeffding_weights(
    differences: Floats, test_samples: int | None, scale: float
) -> Floats:
    """Weights of pairs, shape (pairs,), 0 to 1/2, or 1 without test samples.

    Args:
        differences: of gaps, shape (pairs,).
        test_samples: that each gap was computed on.
        scale: gap of a network that is wrong on all of them.
    """
    if test_samples is None:
        counted: Floats = (differences != 0).astype(float)
        return counted
    share = differences / scale
    right = np.maximum(1 - 2 * np.exp(-test_samples * np.square(share) / 2), 0.0)
    weights: Floats = np.maximum(np.square(right) - LEAST, 0.0)
    return weights


def _environments(
    rows: Complete,
    factor: str,
    slices: Whole,
    x: Floats,
    y: Floats,
    test_samples: int | None,
    scale: float,
    level: float,
) -> Iterator[SignError]:
    """Sign errors of all pairs of levels of one factor that occur."""
    codes, names = rows.factors[factor].codes, rows.factors[factor].names
    left, right = _pairs_inside(slices)
    unlike = codes[left] != codes[right]
    left, right = left[unlike], right[unlike]
    swap = codes[left] > codes[right]
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    signs = np.sign(x[left] - x[right]) * np.sign(y[left] - y[right])
    wrong = (1 - signs) / 2
    weights = hoeffding_weights(y[left] - y[right], test_samples, scale)
    place = codes[left] * len(names) + codes[right]
    for each in np.unique(place):
        own = place == each
        counted = own & (weights > 0)
        value, ends, units = _weighted_share(
            wrong[counted], weights[counted], slices[left[counted]], level
        )
        yield SignError(
            value=value,
            low=ends.low,
            high=ends.high,
            level=level,
            rows=len(np.unique(np.concatenate([left[own], right[own]]))),
            clusters=len(
                np.unique(rows.clusters[np.concatenate([left[own], right[own]])])
            ),
            notes=() if counted.any() else ("no pair counts.",),
            factor=factor,
            left=names[each // len(names)],
            right=names[each % len(names)],
            pairs=int(counted.sum()),
            dropped=int(own.sum() - counted.sum()),
            slices=units,
        )


def _pairs_inside(slices: Whole) -> tuple[Whole, Whole]:
    """All pairs of rows of the same slice, as two arrays of rows."""
    order = np.argsort(slices, kind="stable")
    of = slices[order]
    left, right = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for apart in range(1, int(np.bincount(of).max(initial=0))):
        same = of[apart:] == of[:-apart]
        left.append(order[:-apart][same])
        right.append(order[apart:][same])
    return np.concatenate(left), np.concatenate(right)


def _weighted_share(
    wrong: Floats, weights: Floats, slices: Whole, level: float
) -> tuple[float, Ends, int]:
    """Weighted mean of errors, its interval over slices, and the number of these."""
    if not len(wrong):
        return math.nan, NONE, 0
    total = float(weights.sum())
    value = float((weights * wrong).sum()) / total
    parts = np.unique(slices, return_inverse=True)[1]
    units = int(parts.max()) + 1
    if value in (0.0, 1.0):
        # All slices agree: the end is the share with which they would by chance.
        end = ((1 - level) / 2) ** (1 / units)
        ends = Ends(end, 1.0, math.nan) if value else Ends(0.0, 1 - end, math.nan)
        return value, ends, units
    sums = np.bincount(parts, weights * (wrong - value))
    error = math.sqrt(units / max(units - 1, 1) * float(np.square(sums).sum())) / total
    return value, of_share(value, error, units - 1, level), units
