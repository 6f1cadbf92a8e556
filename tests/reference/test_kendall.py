"""Kendall's tau-b against scipy and against pairs counted in pure Python."""

import json
import math
import time

import numpy as np
import pytest
from scipy.stats import kendalltau

from steppe.errors import DataError, SettingError
from steppe_lab.statistics import kendall
from steppe_lab.statistics.concordance import joined_sums, pair_sums
from steppe_lab.statistics.layers import layers_of
from steppe_lab.statistics.resampling import draw_counts, resampled
from studies import correlated, tau_by_pairs, ties_and_clusters


@pytest.mark.parametrize("seed", range(30))
def test_sums_over_pairs_are_those_counted_one_by_one(seed):
    x, y, clusters = ties_and_clusters(seed)
    sums = pair_sums(x, y, clusters)
    np.testing.assert_allclose(sums.value, tau_by_pairs(x, y), atol=1e-12)
    for k, without in enumerate(sums.left_out):
        rest = clusters != k
        np.testing.assert_allclose(without, tau_by_pairs(x[rest], y[rest]), atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_pairs_of_unlike_strata_are_left_out(seed):
    x, y, strata = ties_and_clusters(seed)
    clusters = np.arange(len(x))
    rows = range(len(x))
    pairs = [(i, j) for i in rows for j in rows if i < j and strata[i] == strata[j]]
    parts = [pair_sums(x, y, clusters, only=strata == k) for k in np.unique(strata)]
    value = joined_sums(parts).value
    np.testing.assert_allclose(value, tau_by_pairs(x, y, pairs), atol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_a_draw_has_the_tau_of_its_repeated_rows(seed):
    x, y, clusters = ties_and_clusters(seed)
    counts = draw_counts(clusters.max() + 1, 5, seed)
    for tau, count in zip(resampled(x, y, clusters, counts), counts, strict=True):
        rows = np.repeat(np.arange(len(x)), count[clusters].astype(int))
        np.testing.assert_allclose(tau, tau_by_pairs(x[rows], y[rows]), atol=1e-12)


def test_draws_take_as_many_configurations_as_there_are():
    counts = draw_counts(50, 400, seed=0)
    assert (counts.sum(axis=1) == 50).all()
    assert abs(counts.mean(axis=0) - 1).max() < 5 / math.sqrt(400)
    assert (draw_counts(50, 400, seed=0) == counts).all()


@pytest.mark.parametrize("sizes", [(), (1, 1, 1), (2, 5, 1, 3), (300, 2)])
def test_tables_of_pairs_are_summed_over_clusters(sizes, monkeypatch):
    monkeypatch.setattr("steppe_lab.statistics.layers.BLOCK", 20)
    generator = np.random.default_rng(0)
    clusters = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    # Ones of large clusters have sums beyond 8 bits.
    table = generator.integers(0, 2, (len(clusters), len(clusters))).astype(np.int8)
    layers = layers_of(clusters)
    summed = np.zeros((len(sizes), len(sizes)))
    for part, (one,) in layers.sums(lambda own: [table[own][:, layers.order]], 1):
        summed[np.ix_(layers.clusters[part], layers.clusters)] = one
    for a, b in np.ndindex(summed.shape):
        assert summed[a, b] == table[np.ix_(clusters == a, clusters == b)].sum()


def test_blocks_of_rows_change_nothing(monkeypatch):
    table = correlated(np.random.default_rng(0), 90, 3, 0.4, ties=2)
    names = (table[name] for name in ("measure", "gap", "configuration"))
    arrays, counts = tuple(names), draw_counts(30, 7, seed=1)
    whole = resampled(*arrays, counts)
    monkeypatch.setattr("steppe_lab.statistics.resampling.BLOCK", 1000)
    monkeypatch.setattr("steppe_lab.statistics.layers.BLOCK", 1000)
    assert (resampled(*arrays, counts) == whole).all()


@pytest.mark.parametrize("ties", [0.0, 2.0])
def test_3000_rows_agree_with_scipy(ties):
    table = correlated(np.random.default_rng(1), 3000, 1, 0.3, ties)
    tau = kendall(table, "measure", "gap")
    oracle = kendalltau(table["measure"], table["gap"])
    assert abs(tau.value - oracle.statistic) < 1e-12
    assert (tau.rows, tau.clusters) == (3000, 3000)


def test_the_bootstrap_of_rows_agrees_with_that_of_scipy():
    table = correlated(np.random.default_rng(2), 100, 1, 0.5)
    ours = kendall(table, "measure", "gap", draws=1500)
    generator = np.random.default_rng(0)
    x, y = table["measure"], table["gap"]
    taus = []
    for _ in range(400):
        rows = generator.integers(0, 100, 100)
        taus.append(kendalltau(x[rows], y[rows]).statistic)
    oracle = np.quantile(taus, [0.025, 0.975])
    np.testing.assert_allclose([ours.low, ours.high], oracle, atol=0.03)


def test_a_measure_that_is_the_gap_has_tau_1_and_an_honest_end():
    values = list(range(40))
    tau = kendall({"m": values, "gap": values}, "m", "gap")
    assert (tau.value, tau.high) == (1.0, 1.0)
    # 20 disjoint pairs all agree: with a share of q they would with probability q^20.
    assert tau.low == pytest.approx(2 * 0.025 ** (1 / 20) - 1)
    falling = kendall({"m": values[::-1], "gap": values}, "m", "gap")
    assert (falling.value, falling.low, falling.high) == (-1.0, -1.0, -tau.low)


def test_seeds_are_no_configurations():
    table = correlated(np.random.default_rng(3), 300, 5, 0.0, shared=0.99)
    rows = kendall(table, "measure", "gap")
    clustered = kendall(table, "measure", "gap", cluster="configuration")
    assert clustered.value == rows.value
    assert (clustered.rows, clustered.clusters) == (300, 60)
    widths = [each.high - each.low for each in (clustered, rows)]
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(5), rel=0.2)
    halves = {
        **table,
        "a": table["configuration"] // 2,
        "b": table["configuration"] % 2,
    }
    assert kendall(halves, "measure", "gap", cluster=("a", "b")) == clustered


def test_rows_without_values_are_left_out_and_counted():
    table = {
        "m": [1.0, None, 3.0, 2.0, 5.0, math.inf],
        "gap": [1.0, 2.0, 3.0, 4.0, math.nan, 6.0],
    }
    tau = kendall(table, "m", "gap")
    assert (tau.rows, round(tau.value, 3)) == (3, 0.333)
    assert tau.notes == (
        "2 rows were left out: no finite value of m.",
        "1 row was left out: no finite value of gap.",
    )


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0], [None, None]])
def test_too_little_data_has_no_tau_and_a_note(values):
    tau = kendall({"m": values, "gap": list(range(len(values)))}, "m", "gap")
    assert math.isnan(tau.value)
    assert math.isnan(tau.low)
    assert tau.notes
    assert str(tau) == "none"
    assert json.loads(json.dumps(tau.to_dict(), allow_nan=False))["value"] is None


def test_two_and_three_rows_say_nothing_of_new_ones():
    for count in (2, 3):
        tau = kendall({"m": range(count), "gap": range(count)}, "m", "gap")
        assert (tau.value, tau.excludes(0), tau.p) == (1.0, False, 1.0)


def test_ties_are_noted():
    tau = kendall({"m": [1, 1, 2, 3], "gap": [1, 2, 3, 4]}, "m", "gap")
    assert tau.notes == ("m ties in 17 % of pairs.",)


def test_texts_and_unknown_columns_are_refused_in_one_sentence():
    table = {"m": ["a", 1], "gap": [1, 2], "long": [1, 2, 3]}
    with pytest.raises(DataError, match="column m must hold numbers, got 'a' in row 0"):
        kendall(table, "m", "gap")
    with pytest.raises(DataError, match="there is no column x; the columns are m, gap"):
        kendall(table, "x", "gap")
    with pytest.raises(DataError, match="must have one length, got gap 2, long 3"):
        kendall(table, "gap", "long")
    with pytest.raises(SettingError, match="level must be > 0 and < 1, got 95"):
        kendall(table, "gap", "gap", level=95)


class Frame:
    """A table that is no dict, with columns that are no lists."""

    def __init__(self, columns):
        self.columns = columns

    def __getitem__(self, name):
        return iter(self.columns[name])

    def __iter__(self):
        return iter(self.columns)


def test_tables_and_columns_of_other_kinds_are_read():
    columns = {"m": [True, 2, np.float32(3)], "gap": np.array([1, 3, 2], dtype=np.int8)}
    assert kendall(Frame(columns), "m", "gap").value == pytest.approx(1 / 3)
    for cluster in ("a", "b", "c"):
        table = {**columns, "a": [[1], [2], [1]], "b": [(1,), None, "x"]}
        table["c"] = np.array([0.5, np.nan, 0.5])
        rows = {"a": 3, "b": 2, "c": 2}[cluster]
        assert kendall(table, "m", "gap", cluster=cluster).rows == rows


def test_40_measures_of_3000_rows_take_seconds():
    table = correlated(np.random.default_rng(4), 3000, 3, 0.2)
    start = time.process_time()
    for _ in range(5):
        kendall(table, "measure", "gap", cluster="configuration")
    assert time.process_time() - start < 2.5  # 20 s for 40 measures; 3 s were measured
