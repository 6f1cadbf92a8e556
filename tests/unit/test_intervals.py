"""Intervals over seeds and samples, against values worked by hand and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from steppe_lab.statistics.holm import holm
from steppe_lab.statistics.intervals import (
    error_difference,
    mean_interval,
    paired_difference,
    paired_ratio,
)


def test_a_mean_interval_is_students():
    values = [3.1, 2.7, 4.4, 3.9]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=3.525, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.mean == pytest.approx(3.525)


def test_one_value_leaves_everything_open():
    found = mean_interval([2.0])
    assert (found.low, found.mean, found.high) == (-math.inf, 2.0, math.inf)
    assert not found.excludes(1e9)


def test_pairs_remove_what_seeds_share():
    left, right = [1.0, 5.0, 9.0], [0.5, 4.5, 8.4]
    assert paired_difference(left, right).excludes(0.0)
    assert paired_ratio([2.0, 20.0], [1.0, 10.0]).mean == pytest.approx(2.0)
    assert paired_ratio([1.0, -1.0], [1.0, 1.0]) is None


def test_an_error_difference_of_one_seed_knows_no_bounds():
    found = error_difference([{1, 2}], [{1}], samples=10)
    assert (found.mean, found.low, found.high) == (0.1, -math.inf, math.inf)


def test_seeds_that_agree_still_leave_the_doubt_of_few_samples():
    wrong, fewer = {1, 2, 3, 4, 5, 6}, {1, 2, 3}
    found = error_difference([wrong] * 3, [fewer] * 3, samples=100)
    variance = (3 - 100 * 0.03**2) / 99
    expected = stats.t.ppf(0.975, 99) * math.sqrt(variance / 100)
    assert found.half_width == pytest.approx(expected, rel=1e-12)
    assert not found.excludes(0.0)
    assert (found.count, found.samples) == (3, 100)


def test_an_error_difference_splits_its_variance_two_ways():
    left, right = [{0, 1, 2}, {0, 1}, {0, 3, 5}], [{4}, set(), {1}]
    table = np.array(
        [[(i in a) - (i in b) for i in range(8)] for a, b in zip(left, right)]
    )
    mean, rows, columns = table.mean(), table.mean(1), table.mean(0)
    rest = table - rows[:, None] - columns + mean
    a, b = rows.var(ddof=1) / 3, columns.var(ddof=1) / 8
    c = (rest**2).sum() / 14 / 24
    variance = max(a, b, a + b - c)
    freedom = variance**2 / (a**2 / 2 + b**2 / 7 + c**2 / 14)
    found = error_difference(left, right, samples=8)
    low, high = stats.t.interval(0.95, freedom, loc=mean, scale=variance**0.5)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    t = mean / variance**0.5
    assert found.p == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9)


def odds(draw, kind, seeds, samples):
    """Of being wrong, by seed and sample, on both sides, and their true difference."""
    shape = (seeds, samples)
    if kind == "samples":
        u, v = draw.random((2, samples))
        left = np.where(u < 0.05, 0.95, np.where(u < 0.2, 0.3, 0.01))
        right = np.where(v < 0.03, 0.95, np.where(u < 0.2, 0.2, 0.01))
        truth = 0.1005 - (0.03 * 0.95 + 0.97 * 0.048)
        return np.broadcast_to(left, shape), np.broadcast_to(right, shape), truth
    left, right = np.full(shape, 0.1), np.full(shape, 0.07)
    if kind == "seeds":
        left = left + 0.02 * draw.standard_normal((seeds, 1))
        right = right + 0.02 * draw.standard_normal((seeds, 1))
    return left, right, 0.03


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("kind", ["nothing", "samples", "seeds"])
def test_an_error_difference_covers_the_truth_for_new_seeds_and_samples(kind, seeds):
    draw = np.random.default_rng(0)
    covered, draws = 0, 400
    for _ in range(draws):
        left, right, truth = odds(draw, kind, seeds, 500)
        wrong = [
            [set(np.flatnonzero(draw.random(500) < row)) for row in side]
            for side in (left, right)
        ]
        found = error_difference(*wrong, samples=500)
        covered += found.low <= truth <= found.high
    # 93 to 97 %, give or take three standard errors of a proportion.
    assert covered / draws >= 0.93 - 0.038
    if kind != "nothing":  # where what lasts cannot be told from noise, it errs wide
        assert covered / draws <= 0.97 + 0.0256


@pytest.mark.parametrize("values", [[0.2, 0.3, 0.7], [-1.0, 0.5, 2.0, 4.0]])
def test_p_is_that_of_a_t_test(values):
    expected = stats.ttest_1samp(values, 0.0).pvalue
    assert mean_interval(values).p == pytest.approx(expected, rel=1e-9)
    ratios = [math.exp(value) for value in values]
    assert paired_ratio(ratios, [1.0] * len(values)).p == pytest.approx(expected)


def test_holm_steps_down_and_stops():
    # By hand: 0.01 <= 0.05 / 4, 0.015 <= 0.05 / 3, 0.03 > 0.05 / 2; 0.04 is not asked.
    assert holm({"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.015}) == {"b", "d"}
    assert holm({}) == set()
