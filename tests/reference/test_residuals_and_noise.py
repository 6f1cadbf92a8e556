"""Residual tau, noise ceilings, two samples, and many comparisons at once."""

import json
import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, kendalltau, ks_2samp, rankdata

from steppe.errors import DataError
from steppe_lab.statistics import (
    holm_adjusted,
    noise_ceiling,
    residual_kendall,
    two_sample_ks,
)
from steppe_lab.statistics.holm import holm
from studies import grid

FACTORS = {"lr": [1, 2, 3], "width": [4, 8, 16], "bn": ["no", "yes"]}


def study(seed, seeds=2):
    generator = np.random.default_rng(seed)
    table = grid(FACTORS, seeds)
    effect = np.array(table["lr"]) * 3.0 + np.array(table["width"])
    noise = generator.standard_normal((2, len(effect)))
    return {**table, "gap": effect + noise[0], "m": np.exp(effect / 9 + noise[1])}


def residuals(table, values):
    """Residuals of dummies of every level, by numpy's least squares."""
    columns = [
        [each == level for each in table[name]]
        for name in FACTORS
        for level in FACTORS[name]
    ]
    design = np.array([[True] * len(values), *columns], dtype=float).T
    rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return np.round(rest, 9)  # equal residuals tie in spite of rounding


def test_residual_tau_is_that_of_least_squares():
    table = study(0)
    made = residual_kendall(table, "m", "gap", list(FACTORS))
    gap = residuals(table, table["gap"])
    for tau, values in (
        (made.raw, table["m"]),
        (made.log, np.log(table["m"])),
        (made.rank, rankdata(table["m"])),
    ):
        expected = kendalltau(residuals(table, values), gap).statistic
        assert tau.value == pytest.approx(expected, abs=1e-12)
    assert (made.rows, made.clusters) == (36, 18)
    assert 0.8 < made.r2_gap < 1
    assert json.dumps(made.to_dict(), allow_nan=False)


def test_a_measure_that_only_knows_the_factors_has_no_residual():
    table = study(1)
    table["m"] = [2.0 * lr - width for lr, width in zip(table["lr"], table["width"])]
    made = residual_kendall(table, "m", "gap", list(FACTORS))
    assert math.isnan(made.value)
    assert made.notes == ("the factors explain all of the measure.",)
    assert made.log.notes == ("logarithms need positive values.",)


def test_a_measure_that_is_the_gap_has_a_residual_tau_of_1():
    table = study(2)
    made = residual_kendall(table, "gap", "gap", list(FACTORS))
    assert made.value == 1


def test_effects_cost_degrees_of_freedom():
    inside = 0
    for seed in range(60):
        made = residual_kendall(study(seed, seeds=1), "m", "gap", list(FACTORS))
        inside += not made.log.excludes(0)
    assert inside >= 52  # 57 expected, of 18 rows and 6 effects; standard error 1.7


def test_the_ceiling_of_normal_values_is_that_of_their_correlation():
    generator = np.random.default_rng(0)
    true = generator.standard_normal(2000)
    for error in (0.3, 1.0):
        table = {
            "m": true + error * generator.standard_normal(2000),
            "gap": true,
            "m_stderr": np.full(2000, error),
        }
        made = noise_ceiling(table, "m", "gap", draws=20)
        expected = 2 / math.pi * math.asin(1 / math.sqrt(1 + error**2))
        assert made.value == pytest.approx(expected, abs=0.02)
        assert made.observed == pytest.approx(expected, abs=0.03)
        assert made.share == pytest.approx(1, abs=0.06)
        assert made.of_gap == 1


def test_errors_of_the_gap_follow_from_the_number_of_test_samples():
    generator = np.random.default_rng(1)
    true = generator.uniform(0.05, 0.15, 1500)
    seen = generator.binomial(1000, true) / 1000
    table = {"m": true, "gap": 100 * seen, "test_error": 100 * seen}
    made = noise_ceiling(table, "m", "gap", test_samples=1000, draws=20)
    assert made.of_measure == 1
    assert made.of_gap == made.value
    # The measure is the true error: the observed tau is that of a perfect measure.
    assert made.value == pytest.approx(made.observed, abs=0.03)
    assert made.notes == ("m has no standard errors.",)


def test_errors_larger_than_all_differences_leave_no_tau():
    table = {"m": np.arange(50.0), "gap": np.arange(50.0), "e": [1e6] * 50}
    made = noise_ceiling(table, "m", "gap", stderr="e")
    assert abs(made.value) < 0.1


def test_errors_out_of_range_are_refused():
    table = {"m": [1.0, 2.0], "gap": [1.0, 2.0], "e": [0.1, -0.1]}
    with pytest.raises(DataError, match=r"e must be >= 0, got -0\.1"):
        noise_ceiling(table, "m", "gap", stderr="e")
    with pytest.raises(DataError, match="there is no column test_error"):
        noise_ceiling(table, "m", "gap", test_samples=100)
    with pytest.raises(DataError, match="gap must be between 0 and 1, got 2"):
        noise_ceiling(table, "m", "gap", test_samples=9, error="gap", scale=1)


def test_two_samples_are_those_of_scipy():
    generator = np.random.default_rng(2)
    values = [
        *generator.standard_normal(30),
        None,
        *(generator.standard_normal(20) + 1),
    ]
    table = {"acc": values, "sam": [True] * 31 + [False] * 20}
    made = two_sample_ks(table, "acc", "sam")
    oracle = ks_2samp(values[:30], values[31:])
    assert made.value == pytest.approx(oracle.statistic)
    assert made.p == pytest.approx(oracle.pvalue)
    assert (made.left, made.left_rows, made.right, made.right_rows) == (
        False,
        20,
        True,
        30,
    )
    table["sam"][0] = 7
    with pytest.raises(DataError, match="sam must have two levels, got 3"):
        two_sample_ks(table, "acc", "sam")


def test_adjusted_p_are_those_of_the_definition():
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    expected = {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}  # 4 x, 3 x, 2 x, kept up
    assert holm_adjusted(p) == pytest.approx(expected)
    generator = np.random.default_rng(3)
    for _ in range(20):
        drawn = dict(enumerate(generator.uniform(0, 0.1, 6)))
        adjusted = holm_adjusted(drawn)
        assert {k for k, q in adjusted.items() if q <= 0.05} == holm(drawn, 0.95)
        # Never less strict than Benjamini and Hochberg's.
        lenient = false_discovery_control(list(drawn.values()))
        assert all(adjusted[k] >= q - 1e-12 for k, q in enumerate(lenient))
    assert math.isnan(holm_adjusted({"a": math.nan, "b": 0.5})["a"])
    assert holm_adjusted({"a": math.nan, "b": 0.5})["b"] == 0.5
