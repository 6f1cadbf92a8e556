"""Intervals over seeds and samples, against values worked by hand and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from steppe_lab.statistics.error_rates import (
    agreed_difference,
    agreed_rate,
    error_difference,
    error_rate,
)
from steppe_lab.statistics.holm import holm
from steppe_lab.statistics.intervals import (
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


def strong_seeds(draw, seeds):
    """Odds of which seeds alone decide, five points up or down."""
    sides = 0.3 + 0.05 * draw.standard_normal((2, seeds, 1))
    return *(np.broadcast_to(side, (seeds, 500)) for side in sides), 0.0


def covers(draw, left, right, truth):
    wrong = [
        [set(np.flatnonzero(draw.random(500) < row)) for row in side]
        for side in (left, right)
    ]
    interval = error_difference(*wrong, samples=500)
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("kind", ["nothing", "samples", "seeds"])
def test_an_error_difference_covers_the_truth_for_new_seeds_and_samples(kind, seeds):
    draw = np.random.default_rng(0)
    draws = 300
    covered = sum(covers(draw, *odds(draw, kind, seeds, 500)) for _ in range(draws))
    # 93 to 97 %, give or take three standard errors of a proportion.
    assert covered / draws >= 0.93 - 0.044
    # Where what lasts cannot be told from noise, and with two seeds, it errs wide.
    if kind != "nothing" and seeds > 2:
        assert covered / draws <= 0.97 + 0.03


def test_two_seeds_that_differ_strongly_have_intervals_wide_enough():
    draw = np.random.default_rng(1)
    draws = 600
    covered = sum(covers(draw, *strong_seeds(draw, 2)) for _ in range(draws))
    # 95 % less two standard errors; with degrees of freedom by Satterthwaite, 90 %.
    assert covered / draws >= 0.95 - 0.018


def covers_rate(draw, spread, seeds):
    """Whether the interval of one error holds it; log odds of seeds are normal."""
    truth = special.expit(-3 + spread * TYPICAL).mean()
    odds = special.expit(-3 + spread * draw.standard_normal((seeds, 1)))
    wrong = [set(np.flatnonzero(row)) for row in draw.random((seeds, 500)) < odds]
    interval = error_rate(wrong, samples=500)
    return interval.low <= truth <= interval.high


TYPICAL = special.ndtri((np.arange(2000) + 0.5) / 2000)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_an_error_of_skewed_seeds_is_covered_a_little_less_often(seeds):
    draw, draws = np.random.default_rng(2), 2000
    for spread, least, most in ((0.0, 0.96, 1.0), (0.3, 0.93, 1.0), (0.7, 0.88, 0.96)):
        covered = sum(covers_rate(draw, spread, seeds) for _ in range(draws)) / draws
        assert least <= covered <= most, (spread, covered)


def test_two_seeds_add_the_squares_of_the_limits_of_their_parts():
    left, right = [{0, 1, 2}, {0, 1, 5, 6}], [{4}, {1}]
    table = np.array(
        [[(i in a) - (i in b) for i in range(8)] for a, b in zip(left, right)]
    )
    mean, rows, columns = table.mean(), table.mean(1), table.mean(0)
    rest = table - rows[:, None] - columns + mean
    a, b = rows.var(ddof=1) / 2, columns.var(ddof=1) / 8
    c = (rest**2).sum() / 7 / 16
    squares = stats.t.ppf(0.975, 1) ** 2 * a + stats.t.ppf(0.975, 7) ** 2 * (b - c)
    interval = error_difference(left, right, samples=8)
    assert interval.mean == pytest.approx(mean)
    assert interval.half_width == pytest.approx(math.sqrt(squares), rel=1e-9)
    touching = error_difference(left, right, samples=8, level=1 - interval.p)
    assert touching.low == pytest.approx(0.0, abs=1e-9)


def test_a_rate_of_new_seeds_and_samples_is_a_difference_to_no_errors():
    wrong = [{0, 1, 2}, {0, 1}, {0, 3, 5}]
    rate = error_rate(wrong, samples=8)
    gap = error_difference(wrong, [set()] * 3, samples=8)
    assert (rate.low, rate.high) == pytest.approx((gap.low, gap.high))
    assert (rate.count, rate.samples) == (3, 8)


@pytest.mark.parametrize(("wrong", "samples"), [(0, 1000), (3, 40), (40, 40)])
def test_a_rate_without_spread_has_wilsons_interval(wrong, samples):
    interval = agreed_rate(wrong / samples, samples, count=3)
    expected = stats.binomtest(wrong, samples).proportion_ci(method="wilson")
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, rel=1e-9)


def test_networks_without_an_error_are_not_taken_for_faultless():
    none = [set()] * 3
    assert error_rate(none, samples=500).high == pytest.approx(0.00762, abs=1e-5)
    gap = error_difference(none, none, samples=500)
    # By hand: each of one sample in 502 more, 1.95996 sqrt(2 / 502) / sqrt(502).
    assert (gap.low, gap.high) == pytest.approx((-0.0055216, 0.0055216), rel=1e-4)
    assert gap.p == 1.0


def test_a_difference_that_never_varies_keeps_the_doubt_of_its_samples():
    gap = agreed_difference(0.01, samples=500, count=3)
    # By hand: (6 - 1) / 502 and sqrt((7 / 502 - 0.00996**2) / 502).
    centre, error = 5 / 502, math.sqrt((7 / 502 - (5 / 502) ** 2) / 502)
    ends = centre - 1.959964 * error, centre + 1.959964 * error
    assert (gap.low, gap.high) == pytest.approx(ends, rel=1e-6)
    assert gap.p == pytest.approx(2 * stats.norm.sf(centre / error))


def test_rare_errors_that_last_are_covered():
    draw, draws, covered = np.random.default_rng(2), 400, 0
    for _ in range(draws):  # in a quarter of them no sample differs in any pair
        hard = draw.random(500) < 0.002
        left = np.broadcast_to(np.where(hard, 0.8, 0.0), (3, 500))
        right = left * (draw.random(500) < 0.75)
        covered += covers(draw, left, right, 0.002 * 0.8 * 0.25)
    assert covered / draws >= 0.95


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
