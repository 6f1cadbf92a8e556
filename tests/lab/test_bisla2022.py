"""The tables of LPF-SGD: recipes by its README, numbers, networks, correlations.

Expected values are copied from the tables of the README and of the paper, or counted.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
from scipy.stats import kendalltau

from steppe_lab.experiments import experiment_names, find_experiment
from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import without_values
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.costs import cost_of
from steppe_lab.store.store import Store
from steppe_lab.studies.expansion import factors_of, plan_of_study, recipe_of_fields
from steppe_lab.studies.files import read_study
from steppe_lab.studies.table import StudyTable
from steppe_lab.training.build import build_lr_schedule
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.plateau import plateau_of

NAME = "bisla2022_lpf_sgd"
SAMPLES = {
    "mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "tiny_imagenet": 100_000,
    "imagenet": 1_281_167,
}
SHAPES = {
    "mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "tiny_imagenet": ((3, 64, 64), 200),
    "imagenet": ((3, 224, 224), 1000),
}
# Batch size, weight decay, epochs, rate, factor, epochs of its drops.
TABLE_3 = {
    "mnist/lenet": (128, 5e-4, 150, 0.01, 0.1, (50, 100)),
    "cifar10/resnet50": (128, 5e-4, 200, 0.1, 0.1, (100, 120)),
    "cifar100/resnet101": (128, 5e-4, 200, 0.1, 0.1, (100, 120)),
    "tiny_imagenet/resnet18": (128, 1e-4, 100, 0.1, 0.1, (30, 60, 90)),
    "imagenet/resnet18": (256, 1e-4, 100, 0.1, 0.1, (30, 60, 90)),
}
GAMMA = {
    "mnist/lenet": 0.001,
    "cifar10/resnet18": 0.002,
    "cifar100/resnet101": 0.002,
    "tiny_imagenet/resnet18": 0.001,
    "imagenet/resnet18": 0.0005,
}
TABLE_5 = {
    "cifar10/wrn16_8": (128, 5e-4, 200, 0.1, 0.2, (60, 120, 160)),
    "cifar100/wrn28_10": (128, 5e-4, 200, 0.1, 0.2, (60, 120, 160)),
    # The README has 200 epochs, the logs of these numbers have 300.
    "cifar10/pyramidnet110": (128, 1e-4, 300, 0.1, 0.1, (150, 225)),
    "cifar100/pyramidnet110": (128, 1e-4, 300, 0.5, 0.1, (150, 225)),
    "cifar100/pyramidnet272": (128, 1e-4, 300, 0.1, 0.1, (150, 225)),
}
RADII = {
    "cifar10/wrn16_8/autoaugment": (0.0005, 15),
    "cifar10/wrn28_10/basic": (0.0005, 35),
    "cifar10/wrn28_10/autoaugment": (0.0005, 35),
    "cifar100/wrn28_10/cutout": (0.0005, 25),
    "cifar100/wrn28_10/autoaugment": (0.0007, 15),
    "cifar100/shake_shake/basic": (0.0005, 15),
    "cifar10/pyramidnet272/cutout": (0.0005, 15),
}
COUNTS = {
    ("table3", "mnist/lenet"): 1_199_882,
    ("table3", "cifar10/resnet18"): 11_173_962,
    ("table3", "cifar10/resnet50"): 23_520_842,
    ("table3", "cifar10/resnet101"): 42_512_970,
    ("table3", "cifar100/resnet18"): 11_220_132,
    ("table3", "cifar100/resnet50"): 23_705_252,
    ("table3", "cifar100/resnet101"): 42_697_380,
    ("table3", "imagenet/resnet18"): 11_689_512,
    ("table5", "cifar10/wrn16_8"): 10_961_370,
    ("table5", "cifar100/wrn16_8"): 11_007_540,
    ("table5", "cifar10/wrn28_10"): 36_479_194,
    ("table5", "cifar10/shake_shake"): 26_192_922,
    ("table5", "cifar10/pyramidnet110"): 28_485_477,
    ("table5", "cifar10/pyramidnet110_script"): 10_668_722,
    ("table5", "cifar10/pyramidnet272"): 26_210_842,
}


@cache
def claim(name):
    return find_experiment(NAME).claim(name)


@cache
def recipe(name, cell, scale="full"):
    by_name = {each.name: each for each in claim(name).cells}
    return recipe_of_fields(claim(name).point(by_name[cell], scale))


def check_training(made, row):
    batch_size, weight_decay, epochs, lr, factor, drops = row
    assert (made.batch_size, made.epochs) == (batch_size, epochs)
    base = made.base.settings
    assert (base["lr"], base["momentum"], base["weight_decay"]) == pytest.approx(
        (lr, 0.9, weight_decay)
    )
    samples = SAMPLES[made.data.name]
    rate, steps = build_lr_schedule(made, samples), math.ceil(samples / batch_size)
    for number, drop in enumerate(drops):
        before, after = rate(drop * steps - 1), rate(drop * steps)
        assert before == pytest.approx(lr * factor**number)
        assert after == pytest.approx(before * factor)


def test_a_package_is_an_experiment_as_a_module_is():
    assert {NAME, "zhuang2022_gsam"} <= set(experiment_names())


@pytest.mark.parametrize("row", TABLE_3)
def test_trainings_of_table_3_are_those_of_the_readme(row):
    for method in ("sgd", "sam", "lpf_sgd"):
        made = recipe("table3", f"{row}/{method}")
        check_training(made, TABLE_3[row])
        assert made.base.settings["nesterov"] is False
        assert made.augment == ()


@pytest.mark.parametrize("row", GAMMA)
def test_radii_of_table_3_are_those_of_the_readme(row):
    lpf = recipe("table3", f"{row}/lpf_sgd").optimizer
    assert (lpf.settings["gamma"], lpf.settings["micro_batches"]) == (GAMMA[row], 1)
    sam = recipe("table3", f"{row}/sam").optimizer
    assert (sam.settings["rho"], sam.settings["batch_norm"]) == (0.05, "all")


def test_entropy_sgd_walks_five_fresh_batches_for_40_epochs_of_its_program():
    made = recipe("table3", "cifar10/resnet18/e_sgd")
    settings = made.optimizer.settings
    named = ("inner_steps", "inner_lr", "noise", "alpha", "inner_momentum")
    assert [settings[name] for name in named] == [5, 0.1, 1e-4, 0.75, 0.9]
    assert settings["inner_weight_decay"] == 1e-4
    assert settings["gamma"] == "scoping(0.5, 0.0001, 2.38)"
    assert made.base.settings["lr"] == 0.5
    assert Epochs.of(made, 50_000).steps == 40 * 391
    rate = build_lr_schedule(made, 50_000)
    drops = [t for t in range(1, 40 * 391) if rate(t) != rate(t - 1)]
    assert drops == [20 * 391, 24 * 391]


@pytest.mark.parametrize("row", TABLE_5)
def test_trainings_of_table_5_are_those_of_the_readme(row):
    for method in ("sgd", "sam", "lpf_sgd"):
        made = recipe("table5", f"{row}/basic/{method}")
        check_training(made, TABLE_5[row])
        assert made.base.settings["nesterov"] is True


def test_shake_shake_follows_a_cosine_for_1800_epochs():
    made = recipe("table5", "cifar10/shake_shake/cutout/sgd")
    steps = 1800 * 391
    rate = build_lr_schedule(made, 50_000)
    assert [rate(t) for t in (0, steps // 2, steps)] == pytest.approx([0.2, 0.1, 0.0])
    assert made.base.settings["weight_decay"] == 1e-4


@pytest.mark.parametrize("row", RADII)
def test_radii_of_table_5_are_those_of_the_readme(row):
    settings = recipe("table5", f"{row}/lpf_sgd").optimizer.settings
    start, factor = RADII[row]
    assert settings["micro_batches"] == 8
    assert settings["gamma"] == f"cosine_increase({start}, {float(factor)})"


def test_squares_of_cutout_have_16_pixels_on_cifar10_and_8_on_cifar100():
    for data, size in (("cifar10", 16), ("cifar100", 8)):
        made = recipe("table5", f"{data}/wrn16_8/autoaugment/sgd")
        names = [choice.name for choice in made.augment]
        assert names == ["basic", "autoaugment", "cutout"]
        assert made.augment[-1].settings == {"size": size, "p": 0.5}
        assert made.data.settings["standardise"] == "computed"


@pytest.mark.parametrize(("name", "row"), COUNTS)
def test_networks_have_their_published_number_of_parameters(name, row):
    middle = "basic/" if name == "table5" else ""
    made = recipe(name, f"{row}/{middle}sgd")
    in_shape, classes = SHAPES[made.data.name]
    with without_values():
        model = MODELS.build(str(made.model), in_shape, classes)
    assert sum(math.prod(p.shape) for p in model.parameters()) == COUNTS[name, row]


def test_each_scale_expands_to_its_trainings():
    sizes = {
        ("table3", "full"): 45 * 5,
        ("table3", "laptop"): 3 * 3,
        ("table5", "full"): 2 * 6 * 3 * 3 * 5,
        ("table5", "laptop"): 3 * 3,
    }
    for (name, scale), size in sizes.items():
        plan = plan_of_study(claim(name).settings(Request(scale=scale)))
        assert len(plan) == size


def test_cost_of_fresh_batches_on_imagenet_is_known_before_any_run(tmp_path):
    request = Request(cells=("imagenet/resnet18/e_sgd",), seeds=1)
    study = claim("table3").study(request, Store(tmp_path))
    cost = cost_of(claim("table3"), request, study)
    # Epochs are 100 passes, but for less than a step of 5 batches.
    assert cost.gradients == pytest.approx(100 * 1_281_167, rel=1e-4)
    assert cost.parameters == (11_689_512, 11_689_512)


def test_translations_have_the_settings_of_the_programs():
    adam = recipe("table7", "adam")
    assert adam.data.settings == {"direction": "de-en", "vocabulary": 32_000}
    assert (adam.batch_size, adam.steps, adam.held_out) == (256, 100_000, "validation")
    base = {"lr": 5e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert adam.base.settings == {**base, "weight_decay": 1e-4}
    rule = plateau_of(adam.lr_schedule)
    assert (rule.factor, rule.patience, rule.threshold) == (0.5, 1, 0.01)
    assert rule.min_lr == 1e-6
    with without_values():
        model = MODELS.build(str(adam.model), (101,), 32_000)
    assert sum(math.prod(p.shape) for p in model.parameters()) == 45_424_896
    lpf = recipe("table7", "lpf_adam").optimizer.settings
    assert (lpf["micro_batches"], lpf["gamma"]) == (8, "cosine_increase(0.0005, 15.0)")
    assert recipe("table7", "aso_adam").optimizer.settings["a"] == 0.009
    assert recipe("table7", "sam").optimizer.settings["rho"] == 0.01
    entropy = recipe("table7", "e_adam")
    assert (entropy.steps, entropy.base.settings["lr"]) == (25_000, 2.5e-4)
    assert entropy.optimizer.settings["scale_outer_by_gamma"] is False


def test_attacks_follow_the_trainings_of_table_5(tmp_path):
    request = Request(cells=("cifar10/wrn16_8/basic/sgd",), seeds=1)
    studies = [
        claim(n).study(request, Store(tmp_path)) for n in ("table5", "adversarial")
    ]
    (training,), (attacked,) = (list(study.plan) for study in studies)
    assert training == attacked
    (record,) = studies[1].plan.followers(attacked).values()
    names = [each["name"] for each in record["attacks"]]
    assert names == ["fgm", "fgsm", "pgd", "bim", "uniform", "deepfool"]
    # The published program calls LinfDeepFoolAttack.
    assert record["attacks"][-1]["settings"]["norm"] == "inf"
    assert record["epsilons"] == [pytest.approx(8 / 255)]
    assert (record["training"], record["protocol"]) == (training, "pixels")


def test_smoke_has_each_optimizer_network_and_augmentation_and_data_at_hand():
    plans = [
        plan_of_study(claim(name).settings(Request(scale="smoke"))).values()
        for name in ("table3", "table5")
    ]
    recipes = [trial.recipe for plan in plans for trial in plan]
    optimizers = {each.label for each in recipes}
    assert optimizers == {"sgd", "sam", "entropy_sgd", "smoothout", "lpf_sgd"}
    networks = {each.model.name for each in recipes}
    assert networks >= {"lenet", "resnet18", "resnet50", "resnet101", "wide_resnet"}
    assert networks >= {"shake_shake", "pyramidnet"}
    data = {each.data.name for each in recipes}
    assert data == {"mnist", "cifar10", "tiny_imagenet"}
    changes = {tuple(choice.name for choice in each.augment) for each in recipes}
    assert ("basic", "autoaugment", "cutout") in changes
    assert len(recipes) <= 30


def test_numbers_of_table_5_have_the_winners_that_were_counted():
    """SAM is first in 11 of 15 rows of CIFAR-10, LPF-SGD in 12 of 15 of CIFAR-100."""
    numbers = {each.name: each.published for each in claim("table5").cells}
    better = {"cifar10": 0, "cifar100": 0}
    for name, sam in numbers.items():
        if name.endswith("/sam") and "_script" not in name:
            lpf = numbers[f"{name.removesuffix('sam')}lpf_sgd"]
            better[name.partition("/")[0]] += lpf.value < sam.value
    assert better == {"cifar10": 15 - 11, "cifar100": 12}


def test_rows_without_published_numbers_say_so():
    numbers = {each.name: each.published for each in claim("table3").cells}
    without = {name for name, each in numbers.items() if each is None}
    assert without == {
        *(name for name in numbers if name.endswith("/aso")),
        *(name for name in numbers if name.startswith("mnist/")),
        "imagenet/resnet18/e_sgd",
    }
    lpf = numbers["cifar10/resnet50/lpf_sgd"]
    assert (lpf.value, lpf.half_width, lpf.runs) == (8.60, 0.12, 5)
    assert "8.93" in lpf.note
    assert numbers["tiny_imagenet/resnet18/e_sgd"].runs == 3


@pytest.fixture
def table():
    """Networks of a grid of two factors with two seeds."""
    rows = [(m, lr, seed) for m in (0.0, 0.9) for lr in (0.1, 0.2) for seed in (0, 1)]
    gaps = [9.0, 8.5, 5.0, 6.0, 7.0, 6.5, 1.0, 3.0]
    measures = [4.0, 3.0, 5.0, 2.5, 2.0, 1.0, 0.5, 1.5]
    return StudyTable(
        name="grid",
        columns={
            "momentum": [m for m, _, _ in rows],
            "lr": [lr for _, lr, _ in rows],
            "batch_size": [8] * len(rows),
            "seed": [seed for _, _, seed in rows],
            "gap": gaps,
            "test_error": gaps,
            "lpf": measures,
        },
        factors=("momentum", "lr"),
        measures=("lpf",),
        gap="gap",
    )


def test_correlations_of_the_grid_are_over_all_networks_and_along_each_factor(table):
    ours = claim("grid").statistics(table)
    columns = table.columns
    whole = kendalltau(columns["lpf"], columns["gap"]).statistic
    assert ours["overall/lpf"].value.mean == pytest.approx(whole)
    noise = [
        -lr / (8 * (1 - m))
        for lr, m in zip(columns["lr"], columns["momentum"], strict=True)
    ]
    alone = kendalltau(noise, columns["gap"]).statistic
    assert ours["overall/baseline"].value.mean == pytest.approx(alone)
    # Means over seeds: the gaps are 8.75, 5.5, 6.75, 2 and fall along both factors.
    assert ours["table6/momentum"].value.mean == -1.0
    assert ours["table6/lr"].value.mean == -1.0
    # Those of the measure are 3.5, 3.75, 1.5, 1.
    assert ours["table7/lpf/momentum"].value.mean == -1.0
    assert ours["table7/lpf/lr"].value.mean == 0.0


def test_each_cell_of_the_grid_has_a_statistic_of_its_full_study():
    study = read_study("bisla2022_grid", scale="full")
    factors = set(factors_of(study).values())
    measures = {text.partition(":")[0] for text in study.measures[0]}
    for cell in claim("grid").cells:
        kind, *words = cell.name.split("/")
        assert kind in {"overall", "table6", "table7"}
        if kind == "table7":
            assert words[0] in measures
            assert words[1] in factors
        if kind == "table6":
            assert words[0] in factors
    assert len(claim("grid").cells) == 7 + 1 + 7 + 70


@pytest.mark.parametrize("name", ["grid", "label_noise", "data_noise", "width"])
@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_smaller_scales_have_the_cells_that_their_networks_give_numbers_for(
    name, scale
):
    study = read_study(f"bisla2022_{name}", scale=scale)
    measures = {text.partition(":")[0] for text in study.measures[0]}
    varied = {
        factors_of(study)[key] for key, each in study.grid.items() if len(each) > 1
    }
    cells = {each.name for each in claim(name).of_scale(scale)}
    for cell in claim(name).cells:
        _, *words = cell.name.split("/") if name == "grid" else ("", cell.name)
        known = {*measures, *varied, "baseline"}
        assert (cell.name in cells) is (set(words) <= known), cell.name


def test_correlations_with_levels_are_of_means_over_the_seeds():
    levels = [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    measures = [1.0, 9.0, 6.0, 2.0, 7.0, 3.0, 8.0, None]  # means 5, 4, 5, 8
    errors = [0.5, 0.7, 0.8, 0.6, 0.4, 0.2, 0.1, 0.1]
    made = StudyTable(
        name="noise",
        columns={
            "label_noise": levels,
            "width": levels,
            "gap": errors,
            "test_error": errors,
            "lpf": measures,
        },
        factors=("label_noise",),
        measures=("lpf",),
        gap="gap",
    )
    ours = claim("label_noise").statistics(made)["lpf"].value.mean
    assert ours == pytest.approx(kendalltau([5, 4, 5, 8], [0, 1, 2, 3]).statistic)
    ours = claim("width").statistics(made)["lpf"].value.mean
    expected = kendalltau([5, 4, 5, 8], [0.6, 0.7, 0.3, 0.1]).statistic
    assert ours == pytest.approx(expected)
