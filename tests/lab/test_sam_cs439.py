"""The course project on SAM: recipes as its scripts have them, and its stored files."""

import pytest

from steppe_lab.experiments import find_experiment
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.results import results_of
from steppe_lab.store.store import Store
from steppe_lab.studies.expansion import recipe_of_fields

pytest.importorskip("torch_geometric")

EXPERIMENT = find_experiment("sam-cs439")


def recipe(claim, cell, scale="full"):
    """How the network of a cell is trained."""
    claim = EXPERIMENT.claim(claim)
    (own,) = [each for each in claim.cells if each.name == cell]
    return recipe_of_fields(claim.point(own, scale))


def published(claim):
    """Published numbers by cell."""
    return {k: v.value for k, v in EXPERIMENT.claim(claim).published().items()}


def test_images_are_those_of_my_train_cifar():
    sam = recipe("cifar10", "sam/rho=0.1")
    assert str(sam.data) == "cifar10:standardise=computed"
    assert sam.model.settings == {
        "depth": 16,
        "width": 8,
        "dropout": 0.0,
        "form": "davda54",
    }
    assert {n: sam.base.settings[n] for n in ("lr", "momentum", "weight_decay")} == {
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
    }
    assert [str(each) for each in sam.augment] == [
        "basic:padding=4",
        "cutout:size=16,p=0.5",
    ]
    assert (sam.epochs, sam.batch_size, sam.label_smoothing) == (50, 128, 0.1)
    assert sam.lr_schedule == "multi_step(milestones=(15, 30, 40), factor=0.2)"
    assert sam.optimizer.settings["rho"] == 0.1
    assert recipe("cifar10", "sgd").optimizer is None
    asam = recipe("cifar10", "asam/rho=2").optimizer
    assert (asam.name, asam.settings["rho"]) == ("asam", 2.0)
    assert asam.settings["style"] == "davda54"


def test_heartbeats_are_those_of_my_train_mitbih():
    sgd = recipe("heartbeat", "sgd")
    assert sgd.data.settings["subset"] == "published"
    assert sgd.model.settings == {
        "d_model": 200,
        "n_head": 2,
        "n_layer": 1,
        "ffn_hidden": 128,
        "dropout": 0.1,
    }
    assert (sgd.base.settings["lr"], sgd.epochs, sgd.batch_size) == (0.01, 50, 128)
    assert sgd.label_smoothing == 0.1
    assert not sgd.augment


def test_molecules_are_those_of_my_train_gcn():
    sam = recipe("graphs", "sam/rho=0.01")
    assert sam.data.settings["name"] == "Mutagenicity"
    assert sam.model.settings == {"hidden": 128, "dropout": 0.8}
    assert (sam.base.name, sam.base.settings["lr"]) == ("adam", 0.01)
    assert sam.base.settings["weight_decay"] == 5e-4
    assert (sam.epochs, sam.batch_size) == (200, 64)
    assert sam.lr_schedule == "multi_step(milestones=(60, 120, 160), factor=0.2)"
    # The script has --adaptive with the default True, which no word turns off.
    assert sam.optimizer.name == "asam"


def test_accuracies_are_those_of_the_logs():
    assert published("cifar10") == {
        "sam/rho=0.1": 95.41,
        "asam/rho=0.5": 95.79,
        "asam/rho=1": 95.98,
        "asam/rho=2": 95.97,
    }
    assert list(published("cifar10_last").values()) == [95.33, 95.75, 95.95, 95.97]
    assert list(published("heartbeat").values()) == [
        *(94.66, 94.49, 93.82, 92.78, 89.7, 67.0, 40.9, 94.54)
    ]
    assert list(published("graphs").values()) == [
        *(81.03, 81.49, 81.87, 80.11, 79.1, 79.3)
    ]


def test_the_published_spectrum_of_sam_is_that_of_a_training_at_its_half():
    sam = recipe("spectra", "wide_resnet/sam")
    assert sam.epochs == 26
    assert sam.lr_schedule == "multi_step(milestones=(15, 30, 40), factor=0.2)"
    assert (sam.subset, sam.train_fraction) == ("balanced", 0.3)
    assert sam.model.settings["depth"] == 8
    assert recipe("spectra", "transformer/sgd").optimizer is None
    ratios = {"wide_resnet": 88.4 / 178.8, "transformer": 32.4 / 38.8}
    ratios["gcn"] = 25.8 / 136
    for name, each in EXPERIMENT.claim("flatter").published().items():
        assert each.bound == "below"
        assert each.note == f"{ratios[name]:.2f} as published"


def test_centres_and_edges_are_those_of_the_printed_surfaces():
    centres = published("surfaces")
    assert centres["wide_resnet/sgd"] == 0.46783798
    edges = published("surfaces_edges")
    assert {name: round(edges[name], 3) for name in edges} == {
        "wide_resnet/sgd": 5.315,
        "wide_resnet/sam": 2.028,
        "transformer/sgd": 0.716,
        "gcn/adam": 0.657,
        "gcn/sam": 0.366,
    }


def verdicts(name, data_dir, monkeypatch, tmp_path):
    """Rows of a claim on files."""
    monkeypatch.setenv("STEPPE_DATA_DIR", str(data_dir))
    claim, request = EXPERIMENT.claim(name), Request(scale="smoke")
    return results_of(claim, request, claim.study(request, Store(tmp_path))).rows


@pytest.mark.real_data
@pytest.mark.slow
def test_stored_graph_networks_have_their_accuracies_to_the_last_digit(
    data_dir, monkeypatch, tmp_path
):
    adam, sam = verdicts("stored_graphs", data_dir, monkeypatch, tmp_path)
    assert f"{adam.ours.value.mean:.15f}" == "0.804147465437788"
    assert f"{sam.ours.value.mean:.15f}" == "0.815668202764977"
    assert (adam.verdict, sam.verdict) == ("reproduced", "reproduced")


@pytest.mark.real_data
@pytest.mark.slow
def test_the_stored_graph_network_has_the_loss_of_its_log(
    data_dir, monkeypatch, tmp_path
):
    (row,) = verdicts("stored_graphs_loss", data_dir, monkeypatch, tmp_path)
    assert row.ours.value.mean == pytest.approx(0.2363639306, abs=1e-7)
    assert row.verdict == "reproduced"


@pytest.mark.real_data
def test_the_stored_wide_network_fits_ours(data_dir, monkeypatch, tmp_path):
    (row,) = verdicts("stored_wide_resnet", data_dir, monkeypatch, tmp_path)
    assert (row.ours.value.mean, row.verdict) == (303_706, "reproduced")


def test_files_that_are_not_there_are_named(monkeypatch, tmp_path):
    rows = verdicts("stored_graphs", tmp_path / "none", monkeypatch, tmp_path)
    assert [row.verdict for row in rows] == ["not run", "not run"]
    assert "needs checkpoints/graphs/model_gcn_ADAM.pt" in rows[0].ours.why_not
