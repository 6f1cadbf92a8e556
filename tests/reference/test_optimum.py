"""The best level of a setting: worked numbers, scipy's t test, and its coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from steppe.errors import DataError, SettingError
from steppe_lab.statistics import optimum


def table_of(by_level):
    """Scores by level, one for each seed from 0 on."""
    rows = [
        (level, seed, score)
        for level, scores in by_level.items()
        for seed, score in enumerate(scores)
    ]
    return dict(zip(("rho", "seed", "loss"), zip(*rows, strict=True), strict=True))


def test_levels_that_no_other_is_better_than_by_hand():
    # Differences from the middle level: 2, 3, 4 (t = 3 / (1 / sqrt 3) = 5.20 on 2
    # degrees, one-sided p = 0.0176), and 0.5, -0.5, 0 (t = 0).
    table = table_of({0.1: [3, 4, 5], 0.2: [1, 1, 1], 0.5: [1.5, 0.5, 1]})
    found = optimum(table, "rho", "loss")
    assert (found.best, found.score.mean) == (0.2, 1)
    assert (found.candidates, found.levels) == ((0.2, 0.5), (0.1, 0.2, 0.5))
    assert (found.low, found.high, found.at_edge) == (0.2, 0.5, False)
    # Each of two tests is at half of the level, and 0.0176 is more than 0.015.
    assert optimum(table, "rho", "loss", level=0.97).low == 0.1


@pytest.mark.parametrize("sign", [1, -1])
def test_candidates_are_those_of_the_t_test_of_scipy(sign):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        levels, seeds = (int(n) for n in rng.integers((2, 3), (7, 8)))
        scores = rng.standard_normal((levels, seeds)) + rng.uniform(0, 5, (levels, 1))
        table = table_of(dict(enumerate((sign * scores).tolist())))
        found = optimum(table, "rho", "loss", higher_is_better=sign < 0)
        alpha = 0.05 / (levels - 1)
        worse = {
            one
            for one, other in itertools.permutations(range(levels), 2)
            if ttest_rel(scores[one], scores[other], alternative="greater").pvalue
            < alpha
        }
        assert set(found.candidates) == set(range(levels)) - worse
        assert found.best == scores.mean(1).argmin()
        seen.add(len(found.candidates) < levels)
    assert seen == {True, False}


def test_the_truly_best_level_is_among_the_candidates():
    rng = np.random.default_rng(1)
    # A flat valley: one level is hardly better than its neighbours.
    means = 0.3 * np.abs(np.arange(6) - 2.2)
    trials, covered, narrow = 300, 0, 0
    for _ in range(trials):
        shared = rng.standard_normal(5)
        scores = means[:, None] + shared + 0.3 * rng.standard_normal((6, 5))
        found = optimum(table_of(dict(enumerate(scores.tolist()))), "rho", "loss")
        covered += 2 in found.candidates
        narrow += len(found.candidates) < 6
    assert covered / trials > 0.95 - 2 * math.sqrt(0.95 * 0.05 / trials)
    assert narrow > trials / 2


def test_runs_without_a_pair_a_score_or_a_second_seed():
    table = {
        "rho": [1, 1, 2, 2, 3, 3, None],
        "seed": [0, 1, 0, 1, 2, 3, 0],
        "loss": [1.0, 2.0, 8.0, 9.0, 50.0, math.nan, -1.0],
    }
    found = optimum(table, "rho", "loss")
    # Differences of 7 and 7 have no spread; 3 shares no seed with another level.
    assert (found.best, found.candidates, found.at_edge) == (1, (1, 3), True)
    alone = optimum(table_of({"a": [2.0], "b": [1.0]}), "rho", "loss")
    assert (alone.best, alone.candidates) == ("b", ("a", "b"))
    assert alone.score.high == math.inf
    ties = optimum(table_of({1: [2, 2], 2: [2, 2]}), "rho", "loss")
    assert (ties.best, ties.candidates) == (1, (1, 2))
    assert optimum({"rho": [], "seed": [], "loss": []}, "rho", "loss") is None
    with pytest.raises(DataError, match="there is no column accuracy"):
        optimum(table, "rho", "accuracy")
    with pytest.raises(SettingError, match="level"):
        optimum(table, "rho", "loss", level=1.0)
