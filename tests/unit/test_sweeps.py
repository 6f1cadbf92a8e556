"""A setting over several values, on scores that are known."""

import math

import pytest

import steppe
from steppe.errors import SettingError
from steppe.registry.sweeps import log_spaced


def bowl(rho):
    return (math.log10(rho) + 1) ** 2


def test_the_best_value_is_the_one_with_the_lowest_score():
    found = steppe.sweep(bowl, (1.0, 0.1, 0.01))
    assert found.values == (0.01, 0.1, 1.0)
    assert found.scores == ((1.0,), (0.0,), (1.0,))
    assert (found.best, found.at_edge) == (0.1, None)
    assert found.stderrs == (math.inf,) * 3
    assert str(found).splitlines()[-1] == "Best: 0.1."


@pytest.mark.parametrize(
    ("better", "values", "best", "edge", "said"),
    [
        ("smaller", (0.1, 1.0), 0.1, "low", "the lowest value tried; try lower"),
        ("smaller", (0.01, 0.1), 0.1, "high", "the highest value tried; try higher"),
        ("larger", (0.01, 0.1, 10.0), 10.0, "high", "try higher ones too"),
        ("smaller", (3.0,), 3.0, "high", "try higher ones too"),
    ],
)
def test_a_best_value_at_the_edge_is_told(better, values, best, edge, said):
    found = steppe.sweep(bowl, values, better=better)
    assert (found.best, found.at_edge) == (best, edge)
    assert said in str(found)


def test_repeats_give_means_with_standard_errors():
    found = steppe.sweep(lambda rho, seed: rho + seed, (1.0, 2.0), seeds=(0, 1, 5))
    assert found.scores == ((1.0, 2.0, 6.0), (2.0, 3.0, 7.0))
    assert found.means == (3.0, 4.0)
    expected = math.sqrt((4 + 1 + 9) / 2 / 3)
    assert found.stderrs == pytest.approx((expected, expected), rel=1e-14)


def test_a_run_that_fails_loses_only_itself():
    said = []

    def train(rho, seed):
        if rho > 1 and seed == 1:
            raise RuntimeError("out of memory")
        return math.nan if rho < 0.1 else rho

    found = steppe.sweep(train, (0.01, 0.5, 0.7, 2.0), seeds=(0, 1), log=said.append)
    assert found.scores == ((), (0.5, 0.5), (0.7, 0.7), (2.0,))
    assert found.best == 0.5
    assert found.failures == (
        "0.01, seed 0: score nan",
        "0.01, seed 1: score nan",
        "2, seed 1: RuntimeError: out of memory",
    )
    assert len(said) == 8
    assert "out of memory" in str(found)


def test_nothing_is_best_where_nothing_finished():
    found = steppe.sweep(lambda rho: math.inf, (0.1, 0.2))
    assert (found.best, found.at_edge) == (None, None)
    assert "none finished" in str(found)


def test_ctrl_c_is_no_failed_value():
    def train(rho):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steppe.sweep(train, (0.1,))


def test_log_spaced_values_have_equal_ratios_and_three_digits():
    assert log_spaced(0.001, 1.0, 4) == (0.001, 0.01, 0.1, 1.0)
    assert log_spaced(0.05, 0.8, 5) == (0.05, 0.1, 0.2, 0.4, 0.8)
    assert log_spaced(0.01, 1.0, 7)[1] == 0.0215


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: steppe.sweep(bowl, ()),
        lambda: steppe.sweep(bowl, (0.1, 0.1)),
        lambda: steppe.sweep(bowl, (0.1, math.nan)),
        lambda: steppe.sweep(bowl, (0.1,), seeds=()),
        lambda: steppe.sweep(bowl, (0.1,), seeds=3),
        lambda: steppe.sweep(bowl, (0.1,), better="higher"),
        lambda: log_spaced(0.0, 1.0, 3),
        lambda: log_spaced(1.0, 0.1, 3),
        lambda: log_spaced(0.1, 1.0, 1),
    ],
)
def test_what_has_no_meaning_is_one_sentence(wrong):
    with pytest.raises(SettingError, match="got"):
        wrong()
