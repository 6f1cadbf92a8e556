"""Predictors of the gap that know the hyper-parameters alone: the bar for a measure.

Sources: Jiang et al., 2020, arXiv:1912.02178 (hyper-parameters as predictors); the
noise scale lr / (batch size (1 - momentum)) of Smith and Le, 2018, arXiv:1711.04325,
Equation 13, of which more is thought to be flatter, so that its negative is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steppe_lab.statistics.additive import AdditiveFit, additive_fit
from steppe_lab.statistics.concordance import PairSums, pair_sums
from steppe_lab.statistics.correlation import Correlation, check_level, correlate
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.jackknife import of_correlation
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import (
    Complete,
    Floats,
    Levels,
    Table,
    Whole,
    column,
    complete,
    with_levels,
)

NOISE = "-lr/(batch_size*(1-momentum))"
ADDITIVE = "additive"
NAMES = {  # of the columns of the noise scale, the first that a table has
    "lr": ("lr", "learning_rate"),
    "batch_size": ("batch_size", "bs", "batch"),
    "momentum": ("momentum", "mo"),
}


@dataclass(frozen=True, kw_only=True)
class Predictor(AbstractStatistic):
    """Tau-b of a function of hyper-parameters with the gap."""

    name: str
    values: tuple[float | None, ...] = field(repr=False)  # one per row of the table
    r2: float = math.nan  # of the additive model: share of the variance it fits
    r2_held_out: float = math.nan  # the same for configurations not fitted to
    held_out: Correlation | None = None  # tau-b for pairs of such configurations


@dataclass(frozen=True)
class Baselines(Mapping[str, Predictor]):
    """Predictors by name."""

    predictors: Mapping[str, Predictor]

    def __getitem__(self, name: str) -> Predictor:
        return self.predictors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.predictors)

    def __len__(self) -> int:
        return len(self.predictors)

    @property
    def best(self) -> Predictor | None:
        """The predictor with the largest tau in magnitude, the additive model aside."""
        fixed = [
            each
            for name, each in self.predictors.items()
            if name != ADDITIVE and not math.isnan(each.value)
        ]
        return max(fixed, key=lambda each: abs(each.value), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Records of all predictors by name, as JSON has them."""
        return {name: each.to_dict() for name, each in self.predictors.items()}

    def __str__(self) -> str:
        width = max(map(len, self.predictors), default=0)
        return "\n".join(f"{n:{width}} {p}" for n, p in self.predictors.items())


def baselines(
    table: Table, gap: str, factors: Sequence[str], *, level: float = LEVEL
) -> Baselines:
    """Tau-b of hyper-parameter-only predictors with the gap.

    They are the noise scale `-lr/(batch_size*(1-momentum))` where the table has
    columns of learning rate and batch size (momentum is 0 where it has none), each
    factor alone, and the additive model of all factors. A factor that is no number
    predicts by the mean gap of its levels.

    The additive model has seen the gaps it predicts. Its `held_out` has not: a pair of
    configurations is compared by a fit to all others, and likewise `r2_held_out`.

    Args:
        table: columns by name.
        gap: column of numbers; rows without a value or a factor are left out.
        factors: columns of hyper-parameters; rows alike in all are one configuration.
        level: coverage of the intervals, 0 to 1.

    Raises:
        DataError: no such column, or a text among numbers.
        SettingError: a level out of range.

    Example:
        >>> table = {"lr": [0.1, 0.1, 0.2, 0.2], "batch_size": [8, 16, 8, 16]}
        >>> table["gap"] = [3.0, 4.0, 1.0, 2.0]
        >>> print(*(f"{n} {p.value:.2f}" for n, p in baselines(
        ...     table, "gap", ["lr", "batch_size"]).items()), sep="; ")
        -lr/(batch_size*(1-momentum)) 0.91; lr -0.82; batch_size 0.41; additive 1.00
    """
    check_level(level)
    rows = complete(table, [gap], factors, cluster=factors)
    predictors = {}
    scale = _noise_scale(table)
    if scale is not None:
        predictors[NOISE] = _alone(
            rows, gap, NOISE, scale[rows.kept], len(scale), level
        )
    size = len(column(table, gap))
    for name in factors:
        values, notes = _of_levels(rows.numbers[gap], name, rows.factors[name])
        made = _alone(rows, gap, name, values, size, level, notes)
        predictors[name] = made
    if factors and len(rows):
        predictors[ADDITIVE] = _additive(rows, gap, size, level)
    return Baselines(predictors)


def _alone(
    rows: Complete,
    gap: str,
    name: str,
    values: Floats,
    size: int,
    level: float,
    notes: Sequence[str] = (),
) -> Predictor:
    known = np.isfinite(values)
    clusters = np.unique(rows.clusters[known], return_inverse=True)[1]
    made = correlate(values[known], rows.numbers[gap][known], clusters, level)
    said = [*rows.notes, *notes]
    if not known.all():
        said.append(f"{int((~known).sum())} rows were left out: no {name}.")
    if math.isnan(made.value):
        said.append(f"{name} or {gap} does not vary.")
    return Predictor(
        value=made.value,
        low=made.low,
        high=made.high,
        level=level,
        p=made.p,
        rows=made.rows,
        clusters=made.clusters,
        notes=tuple(said),
        name=name,
        values=_spread(values, rows.kept, size),
    )


def _additive(rows: Complete, gap: str, size: int, level: float) -> Predictor:
    y = rows.numbers[gap]
    factors, crowded = with_levels(rows.factors)
    fit = additive_fit(y, list(factors.values()))
    notes = [*rows.notes, *crowded]
    undetermined = int(np.isnan(fit.left_out).sum())
    if undetermined:
        notes.append(
            f"{undetermined} of {len(fit.means)} configurations cannot be predicted "
            "from the others: no other has one of their levels."
        )
    fitted = fit.fitted
    made = correlate(fitted, y, rows.clusters, level)
    sums = _pairs_held_out(fit, y)
    ends = of_correlation(sums.value, sums.left_out, level)
    return Predictor(
        value=made.value,
        low=made.low,
        high=made.high,
        level=level,
        p=made.p,
        rows=len(rows),
        clusters=rows.count,
        notes=(*notes, f"{ADDITIVE} has seen the gaps; held_out has not."),
        name=ADDITIVE,
        values=_spread(fitted, rows.kept, size),
        r2=fit.r2,
        r2_held_out=fit.r2_left_out,
        held_out=Correlation(
            value=sums.value,
            low=ends.low,
            high=ends.high,
            level=level,
            p=ends.p,
            rows=len(rows),
            clusters=rows.count,
        ),
    )


def _pairs_held_out(fit: AdditiveFit, y: Floats) -> PairSums:
    """Sums over pairs of rows whose predictions come from a fit without both."""
    of = fit.configurations
    gaps = pair_sums(y, y, of)
    with_others, within = gaps.with_others.copy(), gaps.within.copy()
    # Rows of one configuration have the same prediction.
    within[:2] = 0
    order = np.argsort(of, kind="stable")
    starts = np.flatnonzero(np.diff(of[order], prepend=-1))
    ends = np.append(starts[1:], len(y))
    for part, differences in fit.pairs_left_out():
        mine = y[order[starts[part][0] : ends[part][-1]]]
        signs = np.sign(mine[:, None] - y[order])
        by_pair = np.add.reduceat(
            np.add.reduceat(signs, starts, axis=1), starts[part] - starts[part][0]
        )
        predicted = np.sign(differences)
        with_others[0, part] = (predicted * by_pair).sum(axis=1)
        counts = fit.weights[part] * (np.abs(predicted) @ fit.weights)
        with_others[1, part] = np.round(counts)
    return PairSums(with_others, within)


def _of_levels(y: Floats, name: str, levels: Levels) -> tuple[Floats, list[str]]:
    """Prediction of each row by one factor alone."""
    if all(isinstance(each, int | float) for each in levels.names):
        return np.array(levels.names, dtype=float)[levels.codes], []
    counts = np.bincount(levels.codes, minlength=len(levels))
    means = np.bincount(levels.codes, y, minlength=len(levels)) / np.maximum(counts, 1)
    return means[levels.codes], [
        f"levels of {name} are in the order of their mean gap."
    ]


def _noise_scale(table: Table) -> Floats | None:
    """Minus the noise scale of each row; None without learning rate and batch size."""
    own = {
        part: next((name for name in names if name in table), None)
        for part, names in NAMES.items()
    }
    if own["lr"] is None or own["batch_size"] is None:
        return None
    parts = {part: _numbers_or_nan(table[name]) for part, name in own.items() if name}
    momentum = parts.get("momentum", np.zeros_like(parts["lr"]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return -parts["lr"] / (parts["batch_size"] * (1 - momentum))


def _numbers_or_nan(values: Sequence[Any]) -> Floats:
    # A schedule in place of a learning rate is a text: it has no noise scale.
    numbers = [
        float(each) if isinstance(each, int | float | np.number) else math.nan
        for each in values
    ]
    return np.array(numbers, dtype=float)


def _spread(values: Floats, kept: Whole, size: int) -> tuple[float | None, ...]:
    """Values of the kept rows in their places, None elsewhere."""
    every: list[float | None] = [None] * size
    for place, value in zip(kept, values, strict=True):
        every[place] = float(value) if math.isfinite(value) else None
    return tuple(every)
