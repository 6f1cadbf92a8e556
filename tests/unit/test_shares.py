"""Wilson's interval of a share whose error is that of clusters."""

import math

import pytest
from scipy.stats import binomtest

from steppe_lab.statistics.jackknife import of_share

MANY = 10**9  # degrees of freedom, with which Student's t is normal


@pytest.mark.parametrize(("count", "of"), [(1, 10), (5, 10), (37, 40), (200, 1000)])
def test_independent_pairs_have_the_interval_of_scipy(count, of):
    share = count / of
    error = math.sqrt(share * (1 - share) / of)
    made = of_share(share, error, MANY, 0.95)
    expected = binomtest(count, of).proportion_ci(0.95, method="wilson")
    assert (made.low, made.high) == pytest.approx(tuple(expected), rel=1e-6)


def test_fewer_clusters_make_it_wider_inside_of_the_range():
    ends = [of_share(0.1, 0.09, freedom, 0.95) for freedom in (1, 3, MANY)]
    assert 0 < ends[0].low < ends[1].low < ends[2].low < 0.1
    assert 0.1 < ends[2].high < ends[1].high < ends[0].high < 1


def test_one_cluster_or_clusters_without_spread_tell_nothing():
    for error, freedom in ((0.1, 0), (0.0, 5)):
        made = of_share(0.5, error, freedom, 0.95)
        assert (made.low, made.high) == (0, 1)


@pytest.mark.parametrize("share", [0.0, 1.0, 1.0 + 2**-52])
def test_shares_at_an_end_by_rounding_divide_by_no_zero(share):
    made = of_share(share, 1e-17, 5, 0.95)
    assert (made.low, made.high) == (0, 1)
