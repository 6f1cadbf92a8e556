"""Linear assignment against scipy and against all permutations."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from steppe.errors import SettingError
from steppe.linalg.assignment import largest_assignment

KINDS = {
    "normal": lambda source, n: source.normal(size=(n, n)),
    "ties": lambda source, n: source.integers(0, 3, (n, n)).astype(float),
    "equal": lambda source, n: np.ones((n, n)),
    "low rank": lambda source, n: (
        source.normal(size=(n, 2)) @ source.normal(size=(2, n))
    ),
    "scales": lambda source, n: 10 ** source.uniform(-8, 8, size=(n, n)),
}


def total(values, columns):
    return values[np.arange(len(values)), columns].sum()


@pytest.mark.parametrize("size", [1, 2, 3, 8, 40, 150])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_that_of_scipy(kind, size):
    source = np.random.default_rng(size)
    for _ in range(10 if size < 100 else 2):
        values = KINDS[kind](source, size)
        found = largest_assignment(values)
        assert sorted(found) == list(range(size))
        expected = total(values, linear_sum_assignment(values, maximize=True)[1])
        assert total(values, found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_permutation_has_more(kind):
    values = KINDS[kind](np.random.default_rng(1), 6)
    most = max(total(values, list(p)) for p in itertools.permutations(range(6)))
    assert total(values, largest_assignment(values)) == pytest.approx(most, rel=1e-12)


def test_what_has_no_assignment_is_refused():
    with pytest.raises(SettingError, match=r"square matrix, got the shape \(2, 3\)"):
        largest_assignment(np.ones((2, 3)))
    with pytest.raises(SettingError, match="finite"):
        largest_assignment(np.full((2, 2), np.nan))
