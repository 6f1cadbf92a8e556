"""Tau inside of groups, hyper-parameter-only predictors, and paired differences."""

import json
import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from steppe_lab.statistics import (
    baselines,
    paired_bootstrap,
    paired_bootstraps,
    within_groups,
)
from steppe_lab.statistics.additive import additive_fit
from steppe_lab.statistics.tables import complete
from studies import correlated, grid, tau_by_pairs


def shifted_groups(inside, apart=3.0, rows=40, seed=0):
    """Two groups with a tau of `inside`, moved apart in measure and gap."""
    generator = np.random.default_rng(seed)
    parts = [correlated(generator, rows, 1, inside) for _ in range(2)]
    columns = {
        name: np.concatenate([parts[0][name], parts[1][name] + apart])
        for name in ("measure", "gap")
    }
    return {**columns, "sam": ["no"] * rows + ["yes"] * rows}


@pytest.mark.parametrize("inside", [0.0, -0.4, -1.0])
def test_simpsons_paradox_is_named(inside):
    groups = within_groups(shifted_groups(inside), "measure", "gap", "sam")
    assert groups.value > 0
    assert groups.simpson
    assert groups.warning.startswith("Simpson's paradox: tau is ")
    assert set(groups.levels) == {"no", "yes"}
    assert "Simpson" in str(groups)


def test_groups_that_only_have_fewer_pairs_are_no_paradox():
    table = correlated(np.random.default_rng(0), 60, 1, 0.25)
    table["half"] = np.arange(60) % 2
    groups = within_groups(table, "measure", "gap", "half")
    assert not groups.simpson


def test_signs_that_noise_may_explain_are_no_paradox():
    # Tau is -0.17 over all rows and above 0 in both groups, and none is clear of 0.
    table = {
        "measure": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "group": [0, 1, 1, 0, 0, 0, 1, 1, 1],
    }
    table["gap"] = [7, 5, 9, 4, 8, 6, 1, 2, 3]
    tables = [table]
    for seed in range(60):
        one = correlated(np.random.default_rng(seed), 24, 1, 0.0)
        tables.append({**one, "group": np.arange(24) % 2})
    made = [within_groups(each, "measure", "gap", "group") for each in tables]
    unclear = [
        each for each in made if not each.excludes(0) and not each.within.excludes(0)
    ]
    assert len(unclear) > 40
    assert any(each.value * each.within.value < 0 for each in unclear)
    assert not any(each.simpson for each in unclear)


def test_one_level_that_goes_the_other_way_is_named():
    generator = np.random.default_rng(1)
    parts = [correlated(generator, n, 1, tau) for n, tau in ((100, 0.8), (30, -0.6))]
    table = {n: np.concatenate([p[n] for p in parts]) for n in ("measure", "gap")}
    table["width"] = [4] * 100 + [8] * 30
    warning = within_groups(table, "measure", "gap", "width").warning
    assert "at width=8" in warning
    assert "width=4" not in warning


def test_groups_become_json_and_leave_out_rows_without_a_group():
    table = {**shifted_groups(0.3), "sam": [None, *(["a"] * 40), *(["b"] * 39)]}
    groups = within_groups(table, "measure", "gap", "sam")
    assert groups.rows == 79
    assert groups.notes[0] == "1 row was left out: no value of sam."
    assert json.dumps(groups.to_dict(), allow_nan=False)


def study(seed=0, seeds=2):
    """A grid whose gap follows the noise scale, and a text among its factors."""
    factors = {
        "lr": [0.1, 0.03, 0.01],
        "batch_size": [32, 128],
        "momentum": [0.0, 0.9],
        "optimizer": ["sgd", "sam"],
    }
    table = grid(factors, seeds)
    noise = np.random.default_rng(seed).standard_normal(len(table["lr"]))
    scale = [
        lr / (size * (1 - momentum))
        for lr, size, momentum in zip(
            table["lr"], table["batch_size"], table["momentum"], strict=True
        )
    ]
    sam = np.array([0.5 * (each == "sam") for each in table["optimizer"]])
    table["gap"] = list(-np.log(scale) + 0.3 * noise - sam)
    return table, list(factors), [-each for each in scale]


def test_the_noise_scale_and_each_factor_are_predictors():
    table, factors, scale = study()
    made = baselines(table, "gap", factors)
    assert list(made) == [
        "-lr/(batch_size*(1-momentum))",
        *factors,
        "additive",
    ]
    noise = made["-lr/(batch_size*(1-momentum))"]
    assert noise.value == pytest.approx(tau_by_pairs(scale, table["gap"]), abs=1e-12)
    assert noise.values == pytest.approx(scale)
    assert (noise.rows, noise.clusters) == (48, 24)
    lr = kendalltau(table["lr"], table["gap"]).statistic
    assert made["lr"].value == pytest.approx(lr, abs=1e-12)
    assert made["optimizer"].value > 0
    assert made.best is noise
    assert json.dumps(made.to_dict(), allow_nan=False)


def by_least_squares(table, factors, rows, predicted):
    """Predictions of an additive model fitted to some rows, by dummies and lstsq."""
    levels = {name: sorted(set(table[name])) for name in factors}
    design = np.array(
        [
            [1.0, *(table[n][i] == each for n in factors for each in levels[n])]
            for i in range(len(table["gap"]))
        ]
    )
    gap = np.array(table["gap"])
    effects = np.linalg.lstsq(design[rows], gap[rows], rcond=None)[0]
    return design[predicted] @ effects


def test_the_additive_model_is_least_squares():
    table, factors, _ = study()
    additive = baselines(table, "gap", factors)["additive"]
    everything = list(range(48))
    fitted = by_least_squares(table, factors, everything, everything)
    np.testing.assert_allclose(additive.values, fitted, atol=1e-10)
    gap = np.array(table["gap"])
    r2 = 1 - ((gap - fitted) ** 2).sum() / ((gap - gap.mean()) ** 2).sum()
    assert additive.r2 == pytest.approx(r2, abs=1e-12)


def test_configurations_held_out_are_predicted_by_fits_without_them():
    table, factors, _ = study()
    del table["gap"][5], table["seed"][5]  # configurations with one and with two rows
    for name in factors:
        del table[name][5]
    rows = complete(table, ["gap"], factors, cluster=factors)
    fit = additive_fit(rows.numbers["gap"], list(rows.factors.values()))
    of = rows.clusters
    for one in range(3):
        others = np.flatnonzero(of != one)
        own = np.flatnonzero(of == one)[:1]
        expected = by_least_squares(table, factors, others, own)
        np.testing.assert_allclose(fit.left_out[one], expected[0], atol=1e-9)
    differences = np.concatenate([block for _, block in fit.pairs_left_out()])
    for one, two in ((0, 1), (2, 9), (20, 5)):
        others = np.flatnonzero((of != one) & (of != two))
        pair = [np.flatnonzero(of == each)[0] for each in (one, two)]
        first, second = by_least_squares(table, factors, others, pair)
        np.testing.assert_allclose(differences[one, two], first - second, atol=1e-9)


def test_a_model_of_noise_is_honest_about_it():
    taus, shares = [], []
    for seed in range(60):
        table = grid({"a": [1, 2, 3], "b": [1, 2], "c": [1, 2, 3]})
        table["gap"] = list(np.random.default_rng(seed).standard_normal(18))
        additive = baselines(table, "gap", ["a", "b", "c"])["additive"]
        assert additive.value > 0.1
        taus.append(additive.held_out.value)
        shares.append(additive.r2_held_out)
    assert abs(np.mean(taus)) < 3 * np.std(taus) / math.sqrt(60)
    assert np.mean(shares) < 0


def test_a_level_of_one_configuration_cannot_be_held_out():
    table = {"lr": [1, 2, 3, 4], "gap": [1.0, 3.0, 2.0, 4.0]}
    additive = baselines(table, "gap", ["lr"])["additive"]
    assert additive.value == 1
    assert math.isnan(additive.held_out.value)
    assert "4 of 4 configurations cannot be predicted" in additive.notes[0]


def test_a_table_without_rates_or_with_missing_ones_has_what_it_can():
    table = {"lr": [0.1, None, 0.2, 0.3], "wd": ["a", "b", "a", "b"]}
    table["gap"] = [1.0, 2.0, 3.0, 4.0]
    made = baselines(table, "gap", ["lr", "wd"])
    assert list(made) == ["lr", "wd", "additive"]
    assert made["lr"].values == (0.1, None, 0.2, 0.3)
    assert "1 row was left out: no value of lr." in made["wd"].notes


def three(generator, rows, own, shared):
    """A gap, and two measures that follow it and each other."""
    gap, part, a, b = generator.standard_normal((4, rows))
    common = own * gap + shared * part
    return {"gap": gap, "a": common + a, "b": common + b}


def test_a_paired_difference_is_that_of_the_two_taus():
    table = three(np.random.default_rng(0), 80, 1.0, 0.5)
    made = paired_bootstrap(table, "a", "b", "gap")
    taus = [kendalltau(table[n], table["gap"]).statistic for n in ("a", "b")]
    assert made.value == pytest.approx(taus[0] - taus[1], abs=1e-12)
    mirrored = paired_bootstrap(table, "b", list(table["a"]), "gap")
    assert (mirrored.low, mirrored.high) == pytest.approx((-made.high, -made.low))
    assert mirrored.p == made.p


def test_a_better_measure_is_clear_and_a_measure_against_itself_is_not():
    table = three(np.random.default_rng(1), 200, 1.0, 0.0)
    table["noise"] = np.random.default_rng(2).standard_normal(200)
    clear = paired_bootstrap(table, "a", "noise", "gap")
    assert clear.low > 0
    assert clear.p == pytest.approx(2 / 1001)
    same = paired_bootstrap(table, "a", "a", "gap")
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_a_predictor_that_does_not_vary_has_no_difference():
    table = {"a": [1, 2, 3], "b": [1, 1, 1], "gap": [1, 2, 3]}
    made = paired_bootstrap(table, "a", "b", "gap")
    assert math.isnan(made.value)
    assert made.notes == ("b or gap does not vary.",)


def test_several_predictors_share_draws_where_they_have_the_same_rows():
    generator = np.random.default_rng(5)
    table = {
        name: list(generator.normal(size=30)) for name in ("a", "b", "base", "gap")
    }
    table |= {"c": [None, *table["a"][1:]], "same": [1.0] * 30}
    names = ["a", "b", "c", "same"]
    made = paired_bootstraps(table, names, table["base"], "gap", draws=50)
    alone = {
        n: paired_bootstrap(table, n, table["base"], "gap", draws=50) for n in names
    }
    assert str(made) == str(alone)
    assert made["c"].rows == 29
    assert math.isnan(made["same"].low)
