"""The paper on the sharpest directions: recipes as its scripts and commands have."""

import pytest

from steppe_lab.experiments import find_experiment
from steppe_lab.reproduction.claims import Request
from steppe_lab.studies.expansion import plan_of_study, recipe_of_fields

EXPERIMENT = find_experiment("jastrzebski2019_sharpest_directions")


def recipe(claim, cell, scale="full"):
    """How the network of a cell is trained."""
    claim = EXPERIMENT.claim(claim)
    claim = getattr(claim, "trainings", claim)
    (own,) = [each for each in claim.cells if each.name == cell]
    return recipe_of_fields(claim.point(own, scale))


def steps(chosen):
    """Learning rate, momentum and weight decay."""
    settings = chosen.base.settings
    return settings["lr"], settings["momentum"], settings["weight_decay"]


def test_the_example_command_of_nsgd_is_trained_as_written():
    nudged = recipe("readme", "simple_cnn/gamma=0.1")
    assert nudged.optimizer.settings["gamma"] == 0.1
    assert steps(nudged) == (0.01, 0, 0)
    assert nudged.model.settings == {"width": 100, "kernel": 5, "hidden": 128}
    assert (nudged.epochs, nudged.patience) == (1000, 500)
    assert nudged.lr_schedule.startswith("plateau(")
    assert "patience=200" in nudged.lr_schedule
    assert nudged.monitor == "test_loss"
    assert (nudged.held_out, nudged.validation_seed) == ("validation", 777)
    assert nudged.track.settings["k"] == 5
    assert nudged.track.settings["samples"] == 2250
    assert nudged.track.settings["drawn"] == "anew"
    assert (nudged.batch_size, nudged.last_batch) == (128, "drop")
    assert nudged.data.settings["standardise"] == "pixel"
    assert [each.name for each in nudged.augment] == ["shift_flip"]
    assert nudged.l2 == 0


def test_the_schedule_of_the_configuration_overrides_the_rate_of_the_command():
    nudged = recipe("readme", "resnet32/gamma=0.01")
    assert nudged.lr_schedule == (
        "piecewise((80, 120, 160, 200, 240), (0.1, 0.01, 0.001, 0.0001, 1e-05, 1e-06))"
    )
    assert nudged.l2 == 1e-4
    assert nudged.model.settings["init_scale"] == 1 / 32


def test_the_table_is_that_of_the_scripts():
    simple, residual = (
        recipe("nsgd", f"{word}/gamma=0.01") for word in ("simple_cnn", "resnet32")
    )
    assert (simple.epochs, simple.patience) == (2000, 200)
    assert "patience=100" in simple.lr_schedule
    assert (simple.track.settings["k"], residual.track.settings["k"]) == (10, 5)
    assert simple.track.settings["samples"] == 2560
    assert residual.model.settings["init_scale"] == 1 / 15
    assert residual.l2 == 0
    gammas = [c.name for c in EXPERIMENT.claim("nsgd").cells if "gamma" in c.name]
    assert len(gammas) == 8
    baseline = recipe("nsgd", "simple_cnn/sgd/lr=0.3")
    assert (baseline.optimizer, baseline.track) == (None, None)
    assert steps(baseline) == (0.3, 0, 0)


def test_all_columns_of_the_table_are_of_the_same_trainings():
    request = Request(scale="full")
    runs = set(plan_of_study(EXPERIMENT.claim("nsgd").settings(request)))
    names = ("sharpness", "frobenius", "validation_50", "loss", "distance")
    for name in names:
        other = EXPERIMENT.claim(f"nsgd_{name}").settings(request)
        assert set(plan_of_study(other)) == runs


def test_no_number_of_the_table_is_published_here():
    assert not EXPERIMENT.claim("nsgd").published()
    said = EXPERIMENT.claim("nsgd_sharper").published().values()
    assert {each.bound for each in said} == {"above"}


def test_eigenvalues_are_followed_as_in_the_scripts():
    residual = recipe("eigenvalues", "resnet32/lr=0.1")
    assert steps(residual) == (0.1, 0, 0)
    assert (residual.l2, residual.epochs) == (1e-4, 400)
    assert residual.track.settings["k"] == 10
    small = recipe("eigenvalues", "simple_cnn/lr=0.01")
    assert (small.l2, small.epochs) == (0, 300)
    assert small.model.settings == {"width": 32, "kernel": 3, "hidden": 128}


def test_the_noise_grid_has_the_rates_and_batches_of_the_scripts():
    claim = EXPERIMENT.claim("noise_grid")
    assert len(claim.cells) == 2 * (3 + 4)
    large = recipe("noise_grid", "simple_cnn/batch=1024")
    assert (steps(large)[0], large.batch_size, large.epochs) == (0.05, 1024, 200)
    assert large.track.settings["samples"] == 2250
    slow = recipe("noise_grid", "resnet32/lr=0.001")
    assert (steps(slow)[0], slow.batch_size) == (0.001, 128)


@pytest.mark.parametrize(
    ("cell", "size", "epochs", "lr"),
    [
        ("simple_cnn/128", 128, 1758, 0.01),
        ("resnet32/128", 128, 1758, 0.1),
        ("simple_cnn/512/lr=0.001", 512, 352, 0.001),
        ("resnet32/2048", 2048, 2000, 0.01),
    ],
)
def test_zooms_have_small_epochs(cell, size, epochs, lr):
    zoomed = recipe("zoom", cell)
    assert (zoomed.epoch_size, zoomed.epochs) == (size, epochs)
    assert steps(zoomed)[0] == lr


@pytest.mark.parametrize(
    ("cell", "along", "across"),
    [
        ("no_top", 0.0, 0.005),
        ("top_scaled/4", 0.02, 0.005),
        ("top_scaled/0.25", 0.00125, 0.005),
        ("bottom_scaled/4", 0.005, 0.02),
        ("bottom_scaled/0.25", 0.005, 0.00125),
        ("top", 0.005, 5e-9),
    ],
)
def test_ablations_have_their_rates_along_the_direction_and_across(cell, along, across):
    chosen = recipe("escaping", cell)
    lr, gamma = steps(chosen)[0], chosen.optimizer.settings["gamma"]
    assert (lr * gamma, lr) == pytest.approx((along, across), rel=1e-12)
    assert chosen.track.settings["k"] == 1
    assert chosen.track.settings["every"] == "1step"
    assert chosen.steps == 1000


def test_the_ablation_goes_on_from_395_epochs():
    start = EXPERIMENT.claim("escaping").start
    begun = recipe_of_fields(start.point(start.cells[0], "full"))
    assert (begun.epochs, steps(begun)[0], begun.batch_size) == (395, 0.005, 128)


def test_fashion_mnist_has_the_augmentation_of_cifar10():
    chosen = recipe("fashion_mnist", "gamma=0.1")
    assert chosen.data.name == "fashion_mnist"
    assert [each.name for each in chosen.augment] == ["shift_flip"]


@pytest.mark.parametrize("claim", EXPERIMENT.claims, ids=lambda claim: claim.name)
def test_every_scale_of_every_claim_has_recipes(claim):
    of = getattr(claim, "of", getattr(claim, "trainings", claim))
    for scale in of.scales:
        assert plan_of_study(of.settings(Request(scale=scale, seeds=1)))
