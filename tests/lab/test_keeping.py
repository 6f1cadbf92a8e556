"""Checkpoints along a training: names, contents, stops and full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from steppe.errors import CheckpointError, StoreError
from steppe_lab import datasets
from steppe_lab.analysis.evaluated import evaluate_one
from steppe_lab.analysis.places import checkpoint_at
from steppe_lab.cli import main
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.training import train_network
from steppe_lab.store.store import Store
from steppe_lab.training import checkpoints
from steppe_lab.training.callbacks.abstract import AbstractCallback, no_state, nothing
from steppe_lab.training.callbacks.keeping import BEST
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState


def recipe(optimizer: str = "sam:rho=0.1", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "small_cnn:width=2,batch_norm=true",
        "train_samples": 100,
        "epochs": 6,
        "checkpoint_every": 2,
        **read_optimizer(optimizer, "sgd:lr=0.2"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def trained(made: Recipe, folder, digits, **how):
    return train(made, made.selection.apply(digits), folder=folder, **how)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("checkpoints/*")}


def weights(path) -> list[torch.Tensor]:
    return list(checkpoints.load(path).model.state_dict().values())


NAMES = {"initial", "half", "best-on-test", *("epoch-0002", "epoch-0004", "epoch-0006")}


@pytest.mark.parametrize("optimizer", ["sgd", "sam+ema:decay=0.5", "sgd+swa:start=4"])
def test_each_is_the_network_of_its_epoch(optimizer, digits, tmp_path):
    done = trained(recipe(optimizer), tmp_path, digits)
    assert set(files(tmp_path)) == {f"{name}.safetensors" for name in NAMES}
    folder = tmp_path / "checkpoints"
    for name, epoch in {
        "epoch-0004": 4,
        "half": 3,
        "best-on-test": done.best_epoch,
    }.items():
        kept = checkpoints.load(folder / f"{name}.safetensors")
        assert kept.epoch == epoch
        row = done.history[epoch - 1]
        scores = evaluate_one(folder / f"{name}.safetensors").scores
        for score in ("train_loss", "test_loss", "test_error"):
            expected = row.get(f"average_{score}", row[score])
            assert scores[score] == pytest.approx(expected, rel=1e-6)
    ends = zip(
        weights(folder / "epoch-0006.safetensors"), done.model.state_dict().values()
    )
    assert all(torch.equal(kept, last) for kept, last in ends)


@pytest.mark.parametrize("optimizer", ["sam:rho=0.1", "sgd+ema:decay=0.5"])
def test_keeping_changes_no_bit_of_the_training(optimizer, digits, tmp_path):
    more = {"model": "wide_resnet:depth=10,width=1,dropout=0.3", "epochs": 2}
    kept = trained(recipe(optimizer, **more), tmp_path, digits)
    bare = trained(recipe(optimizer, checkpoint_every=None, **more), tmp_path, digits)
    assert kept.history == bare.history
    pairs = zip(kept.model.state_dict().values(), bare.model.state_dict().values())
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_initial_weights_are_those_of_the_seed(digits, tmp_path):
    made = recipe(epochs=1)
    trained(made, tmp_path, digits)
    split = made.selection.apply(digits)
    fresh = TrainingState.fresh(made, split, None).model.state_dict().values()
    kept = weights(tmp_path / "checkpoints" / "initial.safetensors")
    assert all(torch.equal(one, other) for one, other in zip(fresh, kept, strict=True))


def test_the_best_epoch_is_by_validation_samples_or_says_that_it_is_not(
    digits, tmp_path
):
    made = recipe(held_out="validation", checkpoint_every=0, epochs=3)
    trained(made, tmp_path, digits)
    assert set(files(tmp_path)) == {
        *("initial.safetensors", "half.safetensors", "best.safetensors")
    }
    assert BEST == {"validation": "best", "test": "best-on-test"}


def test_without_the_option_nothing_is_kept(digits, tmp_path):
    trained(recipe(checkpoint_every=None), tmp_path, digits)
    assert not (tmp_path / "checkpoints").exists()


class Rule(AbstractCallback):
    """Converges after an epoch, and stops after another."""

    begin = before_epoch = before_step = after_step = load_state_dict = nothing
    state_dict = no_state

    def __init__(self, converges: int, stops: int) -> None:
        self.converges, self.stops = converges, stops

    def after_epoch(self, state, row) -> None:
        if state.epoch == self.converges:
            state.converged_at = state.epoch
        if state.epoch == self.stops:
            state.stopped = "a rule"


def test_the_first_convergence_is_kept_and_a_stop_has_scores(
    digits, tmp_path, monkeypatch
):
    from steppe_lab.training import state as states

    real = states.build_callbacks

    def with_rule(*given):
        return {"rule": Rule(2, 3), **real(*given)}

    monkeypatch.setattr(states, "build_callbacks", with_rule)
    done = trained(recipe(evaluate_every=4, checkpoint_every=0), tmp_path, digits)
    assert len(done.history) == done.best_epoch == 3
    assert "test_error" in done.history[-1]
    path = tmp_path / "checkpoints" / "converged.safetensors"
    assert checkpoints.load(path).epoch == 2
    best = checkpoints.load(path.with_name("best-on-test.safetensors"))
    assert best.epoch == 3


@pytest.mark.parametrize("optimizer", ["vasso", "sgd+ema:decay=0.5"])
def test_a_training_that_is_stopped_anywhere_leaves_the_same_files(
    optimizer, digits, tmp_path
):
    made, states = recipe(optimizer, epochs=4), list[bytes]()
    trained(made, tmp_path, digits, keep=states.append, keep_every=0)
    straight = files(tmp_path)
    for state in states[::2]:
        # Files of later epochs than the state's are there, as when it was killed.
        trained(made, tmp_path, digits, resume=state)
        assert files(tmp_path) == straight


def test_the_state_beside_a_checkpoint_goes_on_bit_for_bit(digits, tmp_path):
    made = recipe("gsam", epochs=4, checkpoint_optimizer=True)
    straight = trained(made, tmp_path, digits)
    beside = tmp_path / "checkpoints"
    names = {path.name for path in beside.glob("*.training.pt")}
    assert names == {f"{p.stem}.training.pt" for p in beside.glob("*.safetensors")} | {
        "last.training.pt"
    }
    state = (beside / "epoch-0002.training.pt").read_bytes()
    resumed = trained(made, tmp_path / "again", digits, resume=state)
    assert resumed.history == straight.history


def test_states_without_checkpoints_are_refused():
    with pytest.raises(ValidationError, match="give --checkpoint-every too"):
        recipe(checkpoint_every=None, checkpoint_optimizer=True)


def test_a_full_disk_is_one_sentence_and_loses_no_finished_file(
    digits, tmp_path, monkeypatch
):
    made, store = recipe(epochs=4), Store(tmp_path)
    folder = store.folder(store.add(config_of(made)))
    monkeypatch.setenv("STEPPE_KEEP_EVERY", "0")
    real = os.replace

    def full(source, target):
        if "epoch-0004" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match=r"epoch-0004\.safetensors: no space left"):
        train_network(made, folder, lambda progress: None)
    assert (
        checkpoints.load(folder / "checkpoints" / "epoch-0002.safetensors").epoch == 2
    )
    monkeypatch.undo()
    train_network(made, folder, lambda progress: None)
    assert not list(folder.rglob("*.tmp"))
    trained(made, tmp_path / "straight", digits)
    assert files(folder) == files(tmp_path / "straight")


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    """The folder of a finished run in a store."""
    store = Store(tmp_path_factory.mktemp("store") / "steppe-runs")
    made = recipe(epochs=2)
    folder = store.folder(store.add(config_of(made)))
    train_network(made, folder, lambda progress: None)
    return folder


def test_a_name_after_the_run_is_that_of_a_checkpoint(run):
    store, kept = run.parent.parent, run / "checkpoints"
    best, second = kept / "best-on-test.safetensors", kept / "epoch-0002.safetensors"
    for base in (run, store / run.name, store / run.name[:6], store):
        assert checkpoint_at(base.with_name(f"{base.name}@best-on-test"), store) == best
    for name in ("2", "epoch-2", "epoch-0002"):
        assert checkpoint_at(store / f"{run.name}@{name}", store) == second
    assert checkpoint_at(run.with_name(f"{run.name}@last"), store).parent == run
    assert checkpoint_at(Path(f"{run.name}@half"), store) == kept / "half.safetensors"


def test_a_name_that_is_not_kept_says_which_are(run, digits, tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint best; there is best-on-"):
        checkpoint_at(run.with_name(f"{run.name}@best"), run)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="train with --checkpoint-every"):
        checkpoint_at(tmp_path / "bare@best", run)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        ["measure", "loss", "--samples", "50"],
        pytest.param(["landscape", "--dims", "1", "--x=0,1"], marks=pytest.mark.slow),
        pytest.param(["spectrum", "--steps", "8", "--k", "1"], marks=pytest.mark.slow),
    ],
)
def test_every_verb_reads_them(words, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verb, *rest = words
    assert main([verb, f"{run}@half", *rest]) == 0, capsys.readouterr().err
