"""Numbers as texts: enough digits to see what they say, whatever their size."""

import math

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steppe_lab.reports.text.numbers import mean_of, with_ends, with_error
from steppe_lab.statistics.intervals import Interval

RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
FEW = settings(max_examples=200, deadline=None, derandomize=True, database=None)
NEAR = st.floats(-1, 1).map(lambda x: 1 + x**15)  # crowded around 1
WIDE = st.floats(-12, 12).map(lambda x: 10**x)


def value_of(text):
    """The number that a text says."""
    mantissa, _, exponent = text.replace(",", "").replace("−", "-").partition(" × 10")
    return float(mantissa) * 10.0 ** int(exponent.translate(RAISED) or 0)


def interval_of(values):
    low, mean, high = sorted(values)
    return Interval(mean, low, high, 3)


def side(value, none):
    return (value > none) - (value < none)


@FEW
@given(
    st.one_of(
        st.lists(NEAR, min_size=3, max_size=3), st.lists(WIDE, min_size=3, max_size=3)
    )
)
def test_a_ratio_and_its_ends_never_read_as_no_difference_unless_they_are(values):
    interval = interval_of(values)
    assume(all(x == 1 or abs(x - 1) > 1e-11 for x in values))
    assume(interval.high - interval.low > 1e-11 * interval.high)
    ends = with_ends(interval, none=1.0)
    for end, text in ((interval.low, ends.low), (interval.high, ends.high)):
        assert side(value_of(text), 1.0) == side(end, 1.0)
    assert ends.low != ends.high


@FEW
@given(st.lists(st.floats(-1, 1).map(lambda x: x**9), min_size=3, max_size=3))
def test_points_and_their_ends_never_read_as_zero_unless_they_are(values):
    assume(all(x == 0 or abs(x) > 1e-9 for x in values))
    interval = interval_of(values)
    assume(interval.high - interval.low > 1e-9)
    for sign in (1, -1):
        ends = with_ends(interval, share=True, sign=sign)
        first, last = sorted((sign * interval.low, sign * interval.high))
        assert side(value_of(ends.low), 0) == side(first, 0)
        assert side(value_of(ends.high), 0) == side(last, 0)
        assert ends.low != ends.high


def test_digits_stay_few_where_they_are_enough():
    assert with_ends(interval_of([0.2, 0.23, 0.27]), none=1.0) == (
        "0.23",
        "0.20",
        "0.27",
    )
    assert with_ends(interval_of([-0.0075, -0.0027, 0.0022]), share=True) == (
        *("−0.27", "−0.75", "0.22"),
    )


def test_an_end_at_the_edge_of_no_difference_gets_more_digits():
    assert with_ends(interval_of([0.6, 0.8, 0.998]), none=1.0).high == "0.998"
    assert with_ends(Interval(0.99991, -float("inf"), float("inf"), 1), none=1.0) == (
        *("0.99991", "", ""),
    )


def test_a_mean_that_is_not_finite_is_said_whatever_its_error():
    for mean in (float("inf"), -float("inf"), float("nan")):
        assert with_error(mean, 0.5) == "not finite"
        assert with_error(mean, math.inf) == "not finite"


def test_an_error_of_one_draw_is_not_known_but_a_mean_of_one_run_stands_alone():
    assert with_error(0.5, math.inf) == "0.500 ± not known"
    one = Interval(0.5, -math.inf, math.inf, 1)
    assert mean_of(one, share=False) == "0.500"
