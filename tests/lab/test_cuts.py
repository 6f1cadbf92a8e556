"""Cuts along the sharpest directions of a training: files, resuming, the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spectra import recipe as small
from steppe.errors import SettingError
from steppe.tracking.cuts import read_cuts
from steppe_lab.cli import main
from steppe_lab.datasets.loading import load_split
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_settings

TRACK = "cuts:k=2,samples=40"


def recipe(track=TRACK, optimizer="sgd:lr=0.05", **more):
    methods = read_optimizer(optimizer, "sgd:lr=0.05", track=track)
    return small(**{"epochs": 2, "batch_size": 20, **methods, **more})


@pytest.fixture(scope="module")
def split():
    return load_split(recipe())


def arrays(folder):
    with np.load(folder / "track" / "loss_surfaces.npz") as file:
        return {name: file[name] for name in file}


def test_cuts_change_no_bit_of_the_training(split, tmp_path):
    more = {"model": "mlp:hidden=2,depth=1,batch_norm=true"}
    followed = train(recipe(**more), split, folder=tmp_path).model.state_dict()
    alone = train(recipe("", **more), split).model.state_dict()
    assert all(torch.equal(followed[name], alone[name]) for name in alone)


def test_a_step_has_its_mean_length_on_ten_batches_of_the_training(split, tmp_path):
    """The network stays as it is: the first measurement is compared directly."""
    made = recipe("cuts:k=1,samples=1000,tol=1e-4,vectors=true,lr=0.5", "sgd:lr=0")
    trained = train(made, split, folder=tmp_path)
    with np.load(tmp_path / "track" / "top_K_ev_0.npz") as file:
        v = torch.from_numpy(file["Ev"][:, 0])
    x, y = split.train.batch(slice(0, len(split.train)))
    model = trained.model.eval()
    params = list(model.parameters())
    outputs = torch.nn.functional.cross_entropy(model(x), y, reduction="none")
    per_sample = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(o, params, retain_graph=True)]
        )
        for o in outputs
    ]
    along = (torch.stack(per_sample) @ v).double()
    scales = arrays(tmp_path)["scale_0"]
    # Every mean length lies between those of the whole data and of single samples.
    assert 0.5 * abs(float(along.mean())) <= scales.min() * (1 + 1e-5)
    assert scales.max() <= 0.5 * float(along.abs().mean()) * (1 + 1e-5)


@pytest.mark.parametrize(
    ("track", "optimizer"), [(TRACK, "sgd:lr=0.05"), (TRACK, "nsgd:gamma=0.1,k=2")]
)
def test_resuming_equals_never_stopping_in_weights_and_files(
    split, tmp_path, track, optimizer
):
    made, states = recipe(track, optimizer), []
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    once = train(made, split, folder=whole, keep=states.append, keep_every=0)
    again = train(made, split, folder=resumed, resume=states[0])
    first, second = once.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    a, b = arrays(whole), arrays(resumed)
    assert a["epoch"].tolist() == [0, 1, 2]
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_the_command_keeps_cuts_and_their_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    tiny = ["--epochs", "1", "--train-samples", "40", "--model", "mlp:hidden=2,depth=1"]
    command = ["train", "--optimizer", "sgd:lr=0.05", "--track", "cuts:k=1", *tiny]
    assert main([*command, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    folder = Path(done["checkpoint"]).parent / "track"
    names = {path.name for path in folder.iterdir()}
    pictures = {"eigenvalues.png", "cut_0.png"}
    assert names == {"history.csv", "lanczos.npz", "loss_surfaces.npz", *pictures}
    first, last = read_cuts(folder)[0]
    assert first.details["epoch"] == 0
    assert last.details["eigenvalue"] == done["tracked"]["eigenvalues"][0]


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("cuts:k=0", "k must be >= 1"),
        ("cuts:lr=0", "lr must be > 0"),
        ("cuts:batches=0", "batches must be >= 1"),
        ("cuts:unit=absolute,lr=0.1", "lr must be given with unit='step'"),
        ("cuts:unit=metre", "unit must be"),
    ],
)
def test_settings_are_refused_before_the_training(track, message):
    with pytest.raises(SettingError, match=message):
        check_settings(recipe(track))
