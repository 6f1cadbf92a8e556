"""Additive model of factors: least squares on one effect per level of each factor.

Rows of one configuration have one prediction, so all is computed on the means of the
configurations, weighted by their rows. With H the hat matrix of the weighted values and
r their residuals, those of a fit without the configurations P are

    (I - H_PP)^-1 r_P,

so that predictions for configurations left out need no second fit.

Source: Cook and Weisberg, 1982, "Residuals and influence in regression", section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from steppe_lab.statistics.tables import Floats, Levels, Whole, joined

ROUNDING = 1e-9  # relative to the spread of the values
BLOCK = 2_000_000  # pairs of configurations at a time


@dataclass(frozen=True)
class AdditiveFit:
    """A column of numbers, fitted by effects of factors."""

    configurations: Whole  # of each row, shape (n,)
    means: Floats  # of each configuration, shape (C,)
    weights: Floats  # rows of each configuration, shape (C,)
    basis: Floats  # (C, rank), orthonormal; its products are the hat matrix
    values: Floats  # (n,)

    @property
    def rank(self) -> int:
        """Number of independent effects, the mean among them."""
        return int(self.basis.shape[1])

    @property
    def effects(self) -> Floats:
        """Fitted value of each configuration, shape (C,)."""
        scaled = np.sqrt(self.weights) * self.means
        return self.basis @ (self.basis.T @ scaled) / np.sqrt(self.weights)

    @property
    def fitted(self) -> Floats:
        """Fitted value of each row, shape (n,); those that are equal tie exactly."""
        return self._rounded(self.effects[self.configurations])

    @property
    def residuals(self) -> Floats:
        """Values minus fitted values, shape (n,); those that are equal tie exactly."""
        return self._rounded(self.values - self.effects[self.configurations])

    @property
    def r2(self) -> float:
        """Share of the variance of the rows that the model fits; NaN without any."""
        rest = self.values - self.effects[self.configurations]
        return _share(rest, self.values - self.values.mean())

    @property
    def left_out(self) -> Floats:
        """Prediction for each configuration by a fit without it, shape (C,).

        NaN where the others do not determine it, as for the one configuration that has
        some level.
        """
        return self.means - self._deleted()

    @property
    def r2_left_out(self) -> float:
        """1 minus the squared errors of predictions for configurations left out.

        They are a share of those of the mean of the other configurations' rows. Below 0
        where the mean is the better prediction, NaN where there are no predictions.
        """
        total, count = self.values.sum(), len(self.values)
        others = np.maximum(count - self.weights, 1)
        means = (total - self.weights * self.means) / others
        predicted = self.left_out[self.configurations]
        known = np.isfinite(predicted)
        rest = (self.values - predicted)[known]
        return _share(rest, (self.values - means[self.configurations])[known])

    def pairs_left_out(self) -> Iterator[tuple[slice, Floats]]:
        """Predicted differences of two configurations by a fit without both.

        Yields blocks: configurations, and their predictions minus those of all others,
        shape (block, C); 0 where a fit without both does not determine it.
        """
        roots, count = np.sqrt(self.weights), len(self.means)
        rest = roots * (self.means - self.effects)
        own = 1 - np.square(self.basis).sum(axis=1)
        for first in range(0, count, step := max(BLOCK // count, 1)):
            part = slice(first, min(first + step, count))
            cross = self.basis[part] @ self.basis.T
            free = own[part, None] * own - np.square(cross)
            with np.errstate(invalid="ignore", divide="ignore"):
                one = (own * rest[part, None] + cross * rest) / free
                other = (own[part, None] * rest + cross * rest[part, None]) / free
            differences = self.means[part, None] - one / roots[part, None]
            differences -= self.means - other / roots
            differences[free <= ROUNDING] = 0.0
            near = np.abs(differences) <= ROUNDING * float(np.ptp(self.values))
            differences[near] = 0.0
            yield part, differences

    def _rounded(self, values: Floats) -> Floats:
        """Values without their rounding errors, so that equal ones tie."""
        unit = ROUNDING * (float(np.ptp(self.values)) if len(values) else 0.0)
        return np.round(values / unit) * unit if unit else np.zeros(len(values))

    def _deleted(self) -> Floats:
        """Residual of each configuration's mean in a fit without it, shape (C,)."""
        free: Floats = 1 - np.square(self.basis).sum(axis=1)
        free[free <= ROUNDING] = np.nan
        deleted: Floats = (self.means - self.effects) / free
        return deleted


def additive_fit(
    values: Floats, factors: Sequence[Levels], like: AdditiveFit | None = None
) -> AdditiveFit:
    """Fit a column by one effect per level of each factor.

    Args:
        values: shape (n,), finite.
        factors: levels of each row; numbers are labels here, not slopes.
        like: a fit of another column by the same factors, which saves time.
    """
    if like is not None:
        of, weights = like.configurations, like.weights
        means = np.bincount(of, values) / weights
        return AdditiveFit(of, means, weights, like.basis, values)
    codes = [each.codes for each in factors]
    of = joined(codes) if codes else np.zeros(len(values), dtype=np.int64)
    weights = np.bincount(of).astype(float)
    means = np.bincount(of, values) / weights
    _, rows = np.unique(of, return_index=True)
    columns = [np.ones((len(rows), 1))]
    columns += [
        (each.codes[rows, None] == np.arange(1, len(each))).astype(float)
        for each in factors
    ]
    design = np.sqrt(weights)[:, None] * np.concatenate(columns, axis=1)
    left, singular, _ = np.linalg.svd(design, full_matrices=False)
    rank = int((singular > ROUNDING * singular.max(initial=0.0)).sum())
    return AdditiveFit(of, means, weights, left[:, :rank], values)


def _share(rest: Floats, whole: Floats) -> float:
    total = float(np.square(whole).sum())
    return 1 - float(np.square(rest).sum()) / total if total > 0 else float("nan")
