"""The tables of GSAM: recipes of its code, numbers, networks."""

from __future__ import annotations

import math

import pytest

from steppe_lab.experiments import find_experiment
from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import without_values
from steppe_lab.reproduction.claims import Request
from steppe_lab.studies.expansion import plan_of_study, recipe_of_fields
from steppe_lab.training.build import build_lr_schedule

EXPERIMENT = find_experiment("zhuang2022-gsam")
CIFAR10, IMAGENET = EXPERIMENT.claim("cifar10"), EXPERIMENT.claim("imagenet")
STEPS = 391  # of an epoch


def recipe(claim, name, scale="full"):
    (cell,) = (each for each in claim.cells if each.name == name)
    return recipe_of_fields(claim.point(cell, scale))


def rates(made, epochs):
    rate = build_lr_schedule(made, 50_000)
    return [rate(round(epoch * STEPS)) for epoch in epochs]


def test_numbers_are_those_of_the_readme():
    errors = {cell.name: cell.published.value for cell in CIFAR10.cells}
    assert errors == {"sgd": 3.20, "sam": 2.86, "asam": 2.55, "gsam": 2.45}


def test_all_four_share_the_network_and_the_recipe_of_the_code():
    for cell in CIFAR10.cells:
        made = recipe(CIFAR10, cell.name)
        with without_values():
            model = MODELS.build(str(made.model), (3, 32, 32), 10)
        assert sum(math.prod(p.shape) for p in model.parameters()) == 17_158_106
        assert (made.epochs, made.batch_size, made.label_smoothing) == (200, 128, 0.1)
        assert made.label_smoothing_form == "others"
        base = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
        assert made.base.settings == base
        assert [choice.name for choice in made.augment] == ["basic", "cutout"]
        assert made.augment[1].settings == {"size": 16, "p": 0.5}


def test_gsam_keeps_its_adaptive_radius_while_the_rate_falls_along_a_cosine():
    made = recipe(CIFAR10, "gsam")
    settings = made.optimizer.settings
    assert (settings["rho"], settings["alpha"]) == (2.0, 0.4)
    assert "davda54" in settings["geometry"]
    assert rates(made, (0, 100, 200)) == pytest.approx([0.1, 0.05, 0.0])


def test_the_others_drop_to_a_fifth_three_times():
    radii = {"sam": 0.05, "asam": 2.0}
    for name in ("sgd", "sam", "asam"):
        made = recipe(CIFAR10, name)
        expected = [0.1, 0.1, 0.02, 0.02, 0.004, 0.0008]
        assert rates(made, (0, 59.9, 60, 119.9, 120, 160)) == pytest.approx(expected)
        if name in radii:
            assert made.optimizer.settings["rho"] == radii[name]


def test_errors_on_imagenet_are_100_less_the_published_accuracies():
    errors = {cell.name: cell.published.value for cell in IMAGENET.cells}
    assert len(errors) == 12 * 3
    named = ("resnet50/sgd", "resnet152/gsam", "vit_b16/sam", "mixer_b16/adamw")
    assert [errors[name] for name in named] == [24.0, 20.0, 20.1, 33.6]
    for name, error in errors.items():
        if name.endswith("/gsam"):
            assert error < errors[f"{name.removesuffix('gsam')}sam"]


def test_warm_up_and_decay_on_imagenet_are_those_of_the_published_configurations():
    images = 1_281_167
    for name, peak, warmup, epochs in (
        ("resnet50/gsam", 1.6, 5_000, 90),
        ("vit_b32/gsam", 0.003, 10_000, 300),
    ):
        made = recipe(IMAGENET, name)
        rate = build_lr_schedule(made, images)
        assert rate(warmup) == pytest.approx(peak)
        assert rate(warmup - 1) < peak
        assert rate(epochs * 313) == pytest.approx(peak / 100)
    assert recipe(IMAGENET, "vit_b32/sam").clip_norm == 1.0
    settings = recipe(IMAGENET, "vit_b32/gsam").optimizer.settings
    assert settings["rho"].startswith("proportional(0.6, 0.1")
    assert settings["alpha"] == 0.6


def test_each_scale_expands_without_data_and_without_timm():
    sizes = {"full": 5 * 4, "laptop": 4, "smoke": 4}
    for scale, size in sizes.items():
        plan = plan_of_study(CIFAR10.settings(Request(scale=scale)))
        assert len(plan) == size
    # timm has no Mixer-S/8.
    assert len(plan_of_study(IMAGENET.settings(Request(scale="full")))) == 11 * 3
    assert len(plan_of_study(IMAGENET.settings(Request(scale="smoke")))) == 3


def test_networks_of_timm_are_in_timm_under_their_names():
    timm = pytest.importorskip("timm")
    models = {recipe(IMAGENET, cell.name).model for cell in IMAGENET.cells}
    names = {model.settings["name"] for model in models if model.name == "timm"}
    assert {name for name in names if not timm.is_model(name)} == {"mixer_s8_224"}
