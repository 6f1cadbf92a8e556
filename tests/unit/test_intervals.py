"""Intervals over seeds and samples, against values worked by hand and simulations."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

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


def test_an_error_difference_covers_the_truth_for_new_seeds_and_samples():
    """Errors of two networks that differ by 6 points, drawn 300 times."""
    draw = random.Random(0)
    covered = 0
    for _ in range(300):
        hard = [draw.random() < 0.2 for _ in range(200)]
        left, right = [], []
        for _ in range(4):
            a, b = draw.gauss(0.06, 0.01), draw.gauss(0.0, 0.01)
            odds = [0.1 + 0.5 * h for h in hard]
            left.append({i for i in range(200) if draw.random() < odds[i] + a})
            right.append({i for i in range(200) if draw.random() < odds[i] + b})
        found = error_difference(left, right, samples=200)
        covered += found.low <= 0.06 <= found.high
    # At least 95 %, less four standard errors of a proportion over 300 draws.
    assert covered / 300 >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300)
