"""Numbers of a published study of sharpness, from its own tables."""

import csv

import pytest
from scipy.stats import kendalltau

from steppe_lab.statistics import (
    baselines,
    kendall,
    paired_bootstrap,
    two_sample_ks,
    within_groups,
)

pytestmark = pytest.mark.real_data

GAP, MEASURE, SAM = "Generalization gap", "Sharpness", "Minimization"
ADAPTIVE = ("Adam", "Adagrad", "AdaShift", "AdaBound")


def rows_of(data_dir, name):
    with open(data_dir / "tables" / f"minimum_sharpness_{name}.csv") as file:
        return list(csv.DictReader(file))


def table_of(rows):
    """Columns, numbers among them as numbers, and None where a cell is empty."""
    numbers = (GAP, MEASURE, "Validation accuracy")
    table = {name: [row[name] for row in rows] for name in rows[0]}
    for name in numbers:
        table[name] = [float(each) if each else None for each in table[name]]
    table["adaptive"] = [each in ADAPTIVE for each in table["Optimizer"]]
    return table


@pytest.fixture
def converged(data_dir):
    """The 36 networks of a data set that were trained until their loss was small."""
    return lambda name: table_of(
        [row for row in rows_of(data_dir, name) if row["epoch"] == "converged"]
    )


@pytest.mark.parametrize(
    ("name", "pooled", "sam", "plain"),
    [("fmnist", 0.50, 0.03, 0.18), ("cifar10", 0.30, 0.43, 0.11)],
)
def test_tau_pooled_and_inside_of_groups(converged, name, pooled, sam, plain):
    table = converged(name)
    groups = within_groups(table, MEASURE, GAP, SAM)
    assert groups.rows == 36
    values = groups.value, groups.levels["SAM"].value, groups.levels["standard"].value
    assert values == pytest.approx((pooled, sam, plain), abs=0.006)
    assert groups.simpson == (name == "fmnist")
    oracle = kendalltau(table[MEASURE], table[GAP]).statistic
    assert kendall(table, MEASURE, GAP).value == pytest.approx(oracle, abs=1e-12)


def test_sharpness_is_no_better_than_whether_sam_was_used(converged):
    table, factors = converged("fmnist"), [SAM, "Optimizer", "Architecture"]
    made = baselines(table, GAP, factors)
    assert made.best is made[SAM]
    assert made["additive"].held_out.value < made["additive"].value
    difference = paired_bootstrap(table, MEASURE, made[SAM].values, GAP)
    assert difference.value < 0


def test_adaptive_and_other_optimizers_are_alike(data_dir):
    # All epochs of both data sets, trained without SAM; one of them diverged.
    both = [*rows_of(data_dir, "fmnist"), *rows_of(data_dir, "cifar10")]
    table = table_of([row for row in both if row[SAM] == "standard" and row[MEASURE]])
    assert len(table[GAP]) == 174
    accuracy = two_sample_ks(table, "Validation accuracy", "adaptive")
    sharpness = two_sample_ks(table, MEASURE, "adaptive")
    assert accuracy.p == pytest.approx(0.48, abs=0.005)
    assert sharpness.p == pytest.approx(0.64, abs=0.005)
