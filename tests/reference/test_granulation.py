"""Granulated coefficients, information and sign errors, by hand and by brute force."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest

from steppe.errors import DataError, SettingError
from steppe_lab.statistics import (
    baselines,
    conditional_information,
    granulated,
    kendall,
    residual_kendall,
    sign_error,
    worst_environment,
)
from steppe_lab.statistics import information as information_file
from steppe_lab.statistics.environments import hoeffding_weights
from studies import grid, sign, tau_by_pairs

FACTORS = {"lr": [0.1, 0.01, 0.001], "width": [4, 8], "bn": [True, False]}


def study(seed, seeds=1, ties=False, missing=0):
    """A grid with a measure and a gap of noise, some rows of which are missing."""
    generator = np.random.default_rng(seed)
    table = grid(FACTORS, seeds)
    rows = len(table["lr"])
    kept = np.sort(generator.permutation(rows)[missing:])
    table = {name: [values[i] for i in kept] for name, values in table.items()}
    draws = generator.standard_normal((2, len(kept)))
    if ties:
        draws = np.round(draws)
    return {**table, "m": list(draws[0]), "gap": list(draws[1])}


def psi_by_slices(table, factor, names):
    """Mean of the taus of all slices along a factor, by their definition."""
    slices = {}
    for i in range(len(table["gap"])):
        others = tuple(table[name][i] for name in names if name != factor)
        slices.setdefault(others, []).append(i)
    taus = [
        tau_by_pairs([table["m"][i] for i in rows], [table["gap"][i] for i in rows])
        for rows in slices.values()
    ]
    known = [tau for tau in taus if not math.isnan(tau)]
    return sum(known) / len(known) if known else math.nan


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("missing", [0, 3])
def test_psi_is_the_mean_over_slices(ties, missing):
    for seed in range(5):
        table = study(seed, ties=ties, missing=missing)
        made = granulated(table, "m", "gap", list(FACTORS))
        expected = {name: psi_by_slices(table, name, FACTORS) for name in FACTORS}
        for name, psi in expected.items():
            np.testing.assert_allclose(made.factors[name].value, psi, atol=1e-12)
        mean = np.nanmean(list(expected.values()))
        np.testing.assert_allclose(made.value, mean, atol=1e-12)


def test_values_are_averaged_over_seeds_first_unless_the_seed_is_named():
    table = study(0, seeds=3)
    made = granulated(table, "m", "gap", list(FACTORS))
    means = grid(FACTORS)
    for name in ("m", "gap"):
        means[name] = [sum(table[name][i : i + 3]) / 3 for i in range(0, 36, 3)]
    assert made.value == pytest.approx(
        granulated(means, "m", "gap", list(FACTORS)).value, abs=1e-12
    )
    assert (made.rows, made.clusters) == (36, 12)
    each = granulated(table, "m", "gap", list(FACTORS), seed="seed")
    for name in FACTORS:
        expected = psi_by_slices(table, name, [*FACTORS, "seed"])
        assert each.factors[name].value == pytest.approx(expected, abs=1e-12)


def test_a_worked_grid_of_two_by_two():
    table = {"lr": [1, 1, 2, 2], "width": [4, 8, 4, 8]}
    table |= {"m": [1, 2, 3, 5], "gap": [1, 2, 4, 3]}
    made = granulated(table, "m", "gap", ["lr", "width"])
    # Along lr: 1<3 with 1<4 and 2<5 with 2<3. Along width: 1<2 with 1<2, 3<5 with 4>3.
    assert made.factors["lr"].value == 1
    assert made.factors["width"].value == 0
    assert made.value == 0.5
    assert (made.factors["lr"].slices, made.factors["lr"].empty) == (2, 0)


def test_a_factor_as_the_measure_has_its_own_tau_alone():
    table = study(1)
    made = granulated(table, "lr", "gap", list(FACTORS))
    assert made.value == made.factors["lr"].value
    assert made.factors["width"].slices == 0
    assert made.notes == (
        "width has no slice with a tau and is left out.",
        "bn has no slice with a tau and is left out.",
    )
    assert json.dumps(made.to_dict(), allow_nan=False)


def test_a_measure_that_is_the_gap_has_psi_1_and_an_honest_end():
    table = study(2)
    made = granulated(table, "gap", "gap", list(FACTORS))
    assert (made.value, made.high) == (1, 1)
    # bn has 6 slices, lr 4: with a share of q they all agree with probability q^4.
    assert made.low == pytest.approx(2 * 0.025**0.25 - 1)


def share_by_pairs(x, y, levels):
    """I / H of signs given levels, from counts of ordered pairs and their entropies."""
    seen = [
        (sign(x[i] - x[j]), sign(y[i] - y[j]), levels[i], levels[j])
        for i, j in itertools.permutations(range(len(x)), 2)
    ]

    def entropy(of):
        counts = Counter(map(of, seen)).values()
        return -sum(c / len(seen) * math.log(c / len(seen)) for c in counts)

    given = entropy(lambda s: s[2:])
    of_gap = entropy(lambda s: s[1:]) - given
    of_both = entropy(lambda s: s) - entropy(lambda s: (s[0], *s[2:]))
    return (of_gap - of_both) / of_gap if of_gap > 1e-12 else math.nan


@pytest.mark.parametrize("ties", [False, True])
def test_information_is_that_of_counted_pairs(ties):
    table = study(3, seeds=2, ties=ties, missing=2)
    made = conditional_information(table, "m", "gap", list(FACTORS))
    assert len(made.shares) == 1 + 3 + 3
    for given, share in made.shares.items():
        levels = list(zip(*(table[name] for name in given), strict=True))
        levels = levels or [()] * len(table["gap"])
        expected = share_by_pairs(table["m"], table["gap"], levels)
        np.testing.assert_allclose(share, expected, atol=1e-10)
    assert made.value == min(made.shares.values()) == made.shares[made.given]


def test_information_without_each_configuration_is_counted_anew():
    table = study(4, seeds=2, missing=3)
    rows = information_file.complete(
        table, ["m", "gap"], list(FACTORS), cluster=list(FACTORS)
    )
    x, y = (information_file.ranks(rows.numbers[name]) for name in ("m", "gap"))
    code = rows.factors["lr"].codes
    part = information_file._pair_counts(x, y, rows.clusters, [code])[0]
    without = list(information_file._without_each(rows.clusters, x, y, code, part))
    for k, share in enumerate(without):
        rest = rows.clusters != k
        expected = share_by_pairs(x[rest], y[rest], code[rest].tolist())
        np.testing.assert_allclose(share, expected, atol=1e-10)


def test_a_function_of_one_factor_knows_nothing_given_it():
    table = study(5, seeds=2)
    table["m"] = [math.exp(-lr) for lr in table["lr"]]
    made = conditional_information(table, "m", "gap", list(FACTORS))
    assert made.value == 0
    assert all(share == 0 for given, share in made.shares.items() if "lr" in given)
    assert made.shares[()] > 0


def test_the_gap_itself_knows_all():
    table = study(6, seeds=2)
    made = conditional_information(table, "gap", "gap", list(FACTORS), draws=20)
    assert made.value == pytest.approx(1, abs=1e-12)
    assert made.p == pytest.approx(1 / 21)
    assert 0 < made.unrelated < 0.2


def test_sets_that_leave_nothing_open_are_left_out():
    table = {"lr": [1, 2, 3], "gap": [1.0, 2.0, 3.0], "m": [1.0, 3.0, 2.0]}
    made = conditional_information(table, "m", "gap", ["lr"])
    assert math.isnan(made.shares[("lr",)])
    assert made.given == ()
    assert "1 of 2 sets of hyper-parameters were left out" in made.notes[0]


def errors_by_pairs(table, weight=lambda d: float(d != 0)):
    """Sign errors of environments, pair by pair."""
    sums = {}
    for i, j in itertools.combinations(range(len(table["gap"])), 2):
        differ = [name for name in FACTORS if table[name][i] != table[name][j]]
        if len(differ) != 1:
            continue
        name = differ[0]
        low, high = sorted((table[name][i], table[name][j]))
        gap = table["gap"][i] - table["gap"][j]
        agree = sign(table["m"][i] - table["m"][j]) * sign(gap)
        total, wrong = sums.get((name, low, high), (0.0, 0.0))
        w = weight(gap)
        sums[name, low, high] = (total + w, wrong + w * (1 - agree) / 2)
    return {key: wrong / total for key, (total, wrong) in sums.items() if total}


@pytest.mark.parametrize("samples", [None, 4000])
def test_sign_errors_are_those_of_counted_pairs(samples):
    table = study(7, seeds=2, ties=samples is None, missing=2)

    def weight(d):
        if samples is None:
            return float(d != 0)
        right = max(0.0, 1 - 2 * math.exp(-2 * samples * (d / 20 / 2) ** 2))
        return max(0.0, right**2 - 0.5)

    expected = errors_by_pairs(table, weight)
    made = sign_error(table, "m", "gap", list(FACTORS), test_samples=samples, scale=20)
    known = {(e.factor, e.left, e.right): e.value for e in made.values() if e.pairs}
    assert known.keys() == expected.keys()
    for key, value in known.items():
        assert value == pytest.approx(expected[key], abs=1e-12)
    worst = worst_environment(
        table, "m", "gap", list(FACTORS), test_samples=samples, scale=20
    )
    assert worst.value == pytest.approx(max(expected.values()), abs=1e-12)
    assert worst.name in made


def test_pairs_and_slices_of_an_environment_are_counted():
    table = study(8, seeds=2)
    error = sign_error(table, "m", "gap", list(FACTORS))["width 4→8"]
    assert (error.slices, error.pairs, error.dropped) == (6, 24, 0)
    assert (error.rows, error.clusters) == (24, 12)


def test_a_measure_that_is_wrong_along_one_factor_is_named():
    table = study(9)
    table["gap"] = [100 * lr + width for lr, width in zip(table["lr"], table["width"])]
    table["m"] = [100 * lr - width for lr, width in zip(table["lr"], table["width"])]
    worst = worst_environment(table, "m", "gap", list(FACTORS))
    assert (worst.name, worst.value, worst.pairs) == ("width 4→8", 1.0, 6)
    # 6 slices agree: with a share of q they would with probability q^6.
    assert worst.low == pytest.approx(0.025 ** (1 / 6))
    assert sign_error(table, "m", "gap", list(FACTORS)).mean == 0.25


def test_hoeffdings_weights():
    # At n = 10,000 gaps 2 points apart are told apart: 1 - 2 exp(-2) = 0.729.
    weights = hoeffding_weights(np.array([0.0, 2.0, 4.0, 100.0]), 10_000, 100.0)
    expected = [0, (1 - 2 * math.exp(-2)) ** 2 - 0.5, (1 - 2 * math.exp(-8)) ** 2 - 0.5]
    np.testing.assert_allclose(weights, [*expected, 0.5], atol=1e-15)


def test_a_table_without_pairs_is_refused():
    table = {"lr": [1, 2], "width": [4, 8], "m": [1.0, 2.0], "gap": [1.0, 2.0]}
    with pytest.raises(DataError, match="differ in one factor alone"):
        worst_environment(table, "m", "gap", ["lr", "width"])
    assert not sign_error(table, "m", "gap", ["lr", "width"])
    with pytest.raises(SettingError, match="test_samples must be >= 1, got 0"):
        sign_error(table, "m", "gap", ["lr"], test_samples=0)


def test_a_factor_of_values_rather_than_levels_is_left_out():
    generator = np.random.default_rng(0)
    lr = list(generator.uniform(0.01, 0.1, 150))
    draws = generator.standard_normal((2, 150))
    table = {"lr": lr, "bn": [0, 1] * 75, "m": draws[0], "gap": draws[1]}
    note = "lr is left out: it has 150 levels; put them into at most 100."
    factors = ["lr", "bn"]
    assert list(sign_error(table, "m", "gap", factors)) == []
    assert sign_error(table, "m", "gap", factors).notes == (note,)
    made = conditional_information(table, "m", "gap", factors)
    assert (set(made.shares), made.notes) == ({(), ("bn",)}, (note,))
    additive = baselines(table, "gap", factors)["additive"]
    assert note in additive.notes
    residual = residual_kendall(table, "m", "gap", factors)
    assert note in residual.notes
    assert residual.r2_gap == pytest.approx(additive.r2)
    with pytest.raises(SettingError, match="factors must be several names, such as"):
        granulated(table, "m", "gap", "lr")


@pytest.mark.parametrize("rows", [0, 1])
def test_empty_tables_have_no_values(rows):
    table = {name: list(range(rows)) for name in ("lr", "m", "gap")}
    for function in (granulated, conditional_information):
        assert math.isnan(function(table, "m", "gap", ["lr"]).value)
    assert not sign_error(table, "m", "gap", ["lr"])
    assert math.isnan(kendall(table, "m", "gap").value)
