"""Intervals of statistics of studies cover the true value as often as they say."""

import math

import numpy as np
import pytest

from steppe_lab.statistics import (
    conditional_information,
    granulated,
    kendall,
    paired_bootstrap,
    residual_kendall,
    sign_error,
)
from studies import correlated, grid

GRID = {"lr": [1, 2, 3], "width": [4, 8, 16], "bn": [0, 1]}


def coverage(statistics):
    """Share of the intervals with the mean of all values in them."""
    mean = np.mean([each.value for each in statistics])
    return np.mean([each.low <= mean <= each.high for each in statistics])


def taus(studies, *settings):
    generator = np.random.default_rng(0)
    return [
        kendall(
            correlated(generator, *settings), "measure", "gap", cluster="configuration"
        )
        for _ in range(studies)
    ]


@pytest.mark.parametrize("settings", [(30, 1, 0.4, 1.5), (60, 3, 0.0, 0.0)])
def test_a_few_studies_are_covered(settings):
    # 95 % of 250, and three standard errors.
    assert coverage(taus(250, *settings)) == pytest.approx(0.95, abs=0.042)


@pytest.mark.slow
@pytest.mark.parametrize("ties", [0.0, 1.5])
@pytest.mark.parametrize("tau", [0.0, 0.4, 0.8])
@pytest.mark.parametrize(
    ("rows", "seeds"), [(30, 1), (30, 3), (30, 5), (100, 1), (100, 5), (1000, 5)]
)
def test_1000_studies_are_covered(rows, seeds, tau, ties):
    made = taus(1000, rows, seeds, tau, ties)
    assert 0.93 <= coverage(made) <= 0.975
    if not tau:
        assert np.mean([each.p < 0.05 for each in made]) <= 0.07


def grids(studies, seeds=1):
    """Tables of a grid, whose measure follows the gap beyond the factors."""
    generator = np.random.default_rng(0)
    for _ in range(studies):
        table = grid(GRID, seeds)
        rows = len(table["lr"])
        shared, first, second = generator.standard_normal((3, rows))
        effect = 0.3 * np.array(table["lr"]) + 0.1 * np.array(table["width"])
        yield {**table, "gap": effect + shared + first, "m": effect + shared + second}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("function", [granulated, residual_kendall])
def test_1000_grids_are_covered(function, seeds):
    made = [function(table, "m", "gap", list(GRID)) for table in grids(1000, seeds)]
    assert 0.925 <= coverage(made) <= 0.98


@pytest.mark.slow
def test_600_sign_errors_of_each_environment_are_covered():
    made = [sign_error(table, "m", "gap", list(GRID)) for table in grids(600, 3)]
    for name in made[0]:
        # 95 % of 600, and three standard errors.
        assert 0.92 <= coverage([each[name] for each in made]) <= 1.0


@pytest.mark.slow
def test_random_orders_test_information_at_their_level():
    generator = np.random.default_rng(0)
    rejected = 0
    for table in grids(300):
        table["m"] = generator.standard_normal(len(table["m"]))
        made = conditional_information(table, "m", "gap", list(GRID), draws=39)
        rejected += made.p <= 0.05
    # 5 % of 300, and three standard errors.
    assert rejected / 300 == pytest.approx(0.05, abs=0.038)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "seeds"), [(30, 1), (100, 1), (90, 3)])
def test_paired_differences_are_covered(rows, seeds):
    generator, made = np.random.default_rng(0), []
    for seed in range(600):
        table = correlated(generator, rows, seeds, 0.5)
        noise = generator.standard_normal((2, rows))
        table["a"], table["b"] = table["measure"] + noise * [[0.5], [1.0]]
        made.append(
            paired_bootstrap(
                table, "a", "b", "gap", cluster="configuration", draws=400, seed=seed
            )
        )
    assert 0.92 <= coverage(made) <= 0.98
    assert np.mean([each.value for each in made]) > 0.05
    assert not math.isnan(made[0].p)
