"""Verdicts on published numbers: closed forms, rules, and their rate of mistakes."""

import math
import random
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from steppe_lab.reproduction.published import Published
from steppe_lab.reproduction.studied import correlation
from steppe_lab.reproduction.verdicts import (
    Ours,
    difference,
    exactly,
    sampled,
    verdict_on,
)
from steppe_lab.statistics import kendall
from steppe_lab.statistics.intervals import Interval, mean_interval

FEW = settings(max_examples=200, deadline=None, derandomize=True, database=None)
NUMBERS = st.floats(-100, 100)


def verdict(published, ours, tolerance=1.0, **more):
    return verdict_on(
        published, Ours(value=ours, **more), tolerance=tolerance, comparable=True
    )


def test_two_means_with_their_spreads_are_compared_as_by_welch():
    ours, theirs = [9.1, 9.3, 8.9, 9.0, 9.4], [9.6, 9.9, 9.2]
    half = 1.959963984540054 * stdev(theirs) * math.sqrt(2 / 3) / math.sqrt(3)
    published = Published(value=fmean(theirs), half_width=half, runs=3)
    own = difference(mean_interval(ours), published)
    oracle = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (own.low, own.high) == pytest.approx((oracle.low, oracle.high), rel=1e-12)


def test_one_published_run_without_an_interval_spreads_as_ours_do():
    ours = [9.1, 9.3, 8.9, 9.0, 9.4]
    own = difference(mean_interval(ours), Published(value=9.0))
    half = stats.t.ppf(0.975, 4) * stdev(ours) * math.sqrt(1 + 1 / 5)
    assert own.half_width == pytest.approx(half, rel=1e-12)
    of_five = difference(mean_interval(ours), Published(value=9.0, runs=5))
    assert of_five.half_width == pytest.approx(half * math.sqrt(2 / 6), rel=1e-12)


def test_a_correlation_of_as_many_networks_spreads_as_ours_does():
    source = random.Random(0)
    columns = {name: [source.random() for _ in range(36)] for name in ("x", "y")}
    tau = kendall(columns, "x", "y")
    own = correlation(tau).value
    assert (own.mean, own.count) == (tau.value, 36)
    whole = difference(own, Published(value=0.5, runs=36))
    assert whole.half_width == pytest.approx(math.sqrt(2) * own.half_width, rel=1e-9)
    constant = correlation(kendall({"x": [1.0] * 9, "y": range(9)}, "x", "y"))
    assert constant.value is None
    assert "does not vary" in constant.why_not


def test_a_sampling_error_is_that_of_a_normal_value():
    own = difference(sampled(91.0, 0.3, 4000), Published(value=92.0))
    assert own.half_width == pytest.approx(1.959963984540054 * 0.3, rel=1e-6)
    both = Published(value=92.0, half_width=1.959963984540054 * 0.4)
    own = difference(sampled(91.0, 0.3, 4000), both)
    assert own.half_width == pytest.approx(1.959963984540054 * 0.5, rel=1e-6)


@FEW
@given(NUMBERS, NUMBERS, st.floats(0, 10))
def test_exact_numbers_are_reproduced_within_the_tolerance_alone(ours, theirs, most):
    within = abs(ours - theirs) <= most + 1e-9 * max(most, abs(theirs))
    expected = "reproduced" if within else "not reproduced"
    assert verdict(Published(value=theirs), exactly(ours), most) == expected


@FEW
@given(NUMBERS, NUMBERS, st.floats(0, 1e6))
def test_one_seed_gives_no_verdict(ours, theirs, most):
    single = mean_interval([ours])
    assert verdict(Published(value=theirs), single, most) == "within noise"
    spread = Published(value=theirs, half_width=0.1, runs=5)
    assert verdict(spread, single, most) == "within noise"


@FEW
@given(st.lists(NUMBERS, min_size=2, max_size=6), NUMBERS, st.floats(0.01, 50))
def test_a_larger_tolerance_never_takes_a_reproduction_back(values, theirs, most):
    order = ["not reproduced", "within noise", "reproduced"]
    published, ours = Published(value=theirs), mean_interval(values)
    places = [order.index(verdict(published, ours, most * f)) for f in (1, 2, 4)]
    assert places == sorted(places)


@FEW
@given(st.lists(NUMBERS, min_size=2, max_size=6), NUMBERS, NUMBERS)
def test_a_verdict_depends_on_the_difference_alone(values, theirs, shift):
    moved = mean_interval([each + shift for each in values])
    own = difference(mean_interval(values), Published(value=theirs))
    other = difference(moved, Published(value=theirs + shift))
    assert own.low == pytest.approx(other.low, abs=1e-9)
    assert own.high == pytest.approx(other.high, abs=1e-9)


def test_protocols_that_differ_have_both_numbers():
    right, wrong = exactly(92.0), exactly(82.0)
    published = Published(value=92.0)
    differs = "published protocol differs"
    assert verdict(published, wrong, protocol=right) == differs
    assert verdict(published, right, protocol=right) == "reproduced"
    assert verdict(published, right, protocol=wrong) == "not reproduced"
    # One seed by the correct protocol does not say that protocols differ.
    assert verdict(published, mean_interval([82.0]), protocol=right) == "reproduced"


def test_numbers_that_cannot_be_compared_have_their_own_verdicts():
    value, published = exactly(1.0), Published(value=1.0)
    none = Ours(why_not="no data")
    ask = {"tolerance": 1.0, "comparable": True}
    assert verdict_on(published, none, **ask) == "not run"
    assert verdict_on(None, Ours(value=value), **ask) == "no published number"
    ask["comparable"] = False
    assert verdict_on(published, Ours(value=value), **ask) == "not run at this scale"
    nan = Interval(math.nan, math.nan, math.nan, 3)
    assert verdict(published, nan) == "not reproduced"


@pytest.mark.parametrize("rounds", [400, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("seeds", "runs", "known"), [(3, 1, False), (5, 5, True)])
def test_at_the_tolerance_itself_mistakes_are_rare(rounds, seeds, runs, known):
    """Truly as far away as the tolerance: either verdict is right at most by chance."""
    draw = random.Random(seeds)
    counts = {"reproduced": 0, "not reproduced": 0, "within noise": 0}
    for _ in range(rounds):
        theirs = [draw.gauss(0, 1) for _ in range(runs)]
        half = 0.0
        if known:
            half = 1.959963984540054 * stdev(theirs) * math.sqrt(1 - 1 / runs)
            half /= math.sqrt(runs)
        published = Published(value=fmean(theirs), half_width=half, runs=runs)
        ours = mean_interval([draw.gauss(8, 1) for _ in range(seeds)])
        counts[verdict(published, ours, 8.0)] += 1
    # 2.5 % on each side, and three standard errors of the simulation.
    most = 0.025 + 3 * math.sqrt(0.025 * 0.975 / rounds)
    assert counts["reproduced"] / rounds < most
    assert counts["not reproduced"] / rounds < most
    assert counts["within noise"] / rounds > 0.9
