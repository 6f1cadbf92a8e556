"""The place where a function meets a level, for functions that are hard to follow."""

import math

import pytest

from steppe.linalg.crossing import crossing

FUNCTIONS = {
    "power": (lambda x: 3 * x**2, 0.2),
    "line": (lambda x: 1e-6 * x, 0.12e6),
    "falling first": (lambda x: x**2 - 0.1 * x, 0.4),
    "exponential": (lambda x: math.expm1(min(x, 700)), math.log(1.12)),
    "infinite": (
        lambda x: 1e11 * x**2 if x < 1e-5 else math.inf,
        1.0954451150103322e-6,
    ),
    "saturating": (lambda x: -math.expm1(-x * x), math.sqrt(-math.log(0.88))),
    "steep": (lambda x: x**40, 0.12 ** (1 / 40)),
    "slow": (lambda x: x**0.3, 0.12 ** (1 / 0.3)),
}


@pytest.mark.parametrize("start", [1e-9, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_found_from_any_start(name, start):
    function, root = FUNCTIONS[name]
    found = crossing(function, 0.12, start, low=1e-12, high=1e9, tol=1e-4)
    assert found.converged
    assert found.at == pytest.approx(root, rel=1e-4)
    assert abs(function(found.last) / 0.12 - 1) <= 1e-4


def test_near_it_a_few_evaluations_are_enough():
    for name, (function, root) in FUNCTIONS.items():
        found = crossing(function, 0.12, 1.3 * root, low=1e-12, high=1e9)
        assert found.evaluations <= 6, name


def test_the_slope_is_that_of_the_logarithms():
    for power in (1, 2, 3):
        found = crossing(lambda x, p=power: x**p, 0.12, 0.9, low=1e-9, high=1e9)
        assert found.slope == pytest.approx(power, rel=1e-6)


def test_a_level_that_is_not_met_between_the_ends_says_on_which_side():
    below = crossing(lambda x: 0.1, 0.12, 1.0, low=1e-9, high=1e9)
    above = crossing(lambda x: 0.2, 0.12, 1.0, low=1e-9, high=1e9)
    assert (below.at, above.at) == (math.inf, 0.0)
    nowhere = crossing(lambda x: math.nan, 0.12, 1.0, low=1e-9, high=1e9)
    assert nowhere.at == 0


def test_a_jump_over_the_level_is_enclosed_and_said():
    found = crossing(lambda x: float(x > 0.3), 0.12, 1e-2, low=1e-12, high=1e9)
    assert not found.converged
    assert found.at == pytest.approx(0.3, rel=1e-6)
