"""Recipes, the training loop and checkpoints."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from steppe.errors import CheckpointError, SettingError, UnknownNameError
from steppe.registry import Choice
from steppe_lab import datasets
from steppe_lab.training import checkpoints
from steppe_lab.training.evaluation import evaluate
from steppe_lab.training.loop import TrainingFailedError, train
from steppe_lab.training.recipe import Recipe, read_optimizer


def recipe(optimizer: str = "sam:rho=0.1", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "small_cnn:width=2",
        "train_samples": 100,
        "epochs": 3,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_recipe_says_every_setting_and_survives_json():
    made = recipe("lpf_sgd")
    record = json.loads(made.model_dump_json())
    assert record["optimizer"]["settings"]["gamma"] == 0.002
    assert record["base"]["settings"]["momentum"] == 0.9
    assert Recipe.model_validate(record) == made


def test_a_recipe_fills_in_the_samples_its_data_recommends():
    assert recipe(train_samples=None).train_samples == 1000


def test_the_base_is_shared_by_the_bare_and_the_wrapped_optimizer():
    bare, wrapped = (
        read_optimizer("sgd", "sgd:lr=0.3"),
        read_optimizer("sam", "sgd:lr=0.3"),
    )
    assert bare["base"] == wrapped["base"]
    assert bare["base"].settings["lr"] == 0.3
    assert read_optimizer("sgd:lr=0.2", "sgd:lr=0.3")["base"].settings["lr"] == 0.2
    assert read_optimizer("adam", "sgd:lr=0.3")["base"].settings["lr"] == 1e-3


def test_defaults_speak_where_the_text_is_silent():
    known = ["sam:rho=0.3", "asam:rho=2"]
    assert read_optimizer("sam", "sgd", known)["optimizer"].settings["rho"] == 0.3
    assert (
        read_optimizer("sam:rho=0.1", "sgd", known)["optimizer"].settings["rho"] == 0.1
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "smal_cnn"}, "did you mean 'small_cnn'"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"model": "small_cnn:width=two"}, "width must be a whole number, got 'two'"),
        ({"optimizer": "sam:rho=-1"}, "rho must be >= 0, got -1"),
        ({"optimizer": "sam:roh=1"}, "did you mean 'rho'"),
        ({"optimizer": "lpf_sgd:micro_batches=0"}, "micro_batches must be >= 1, got 0"),
        ({"base": "sgd:lr=-1"}, "lr"),
        ({"base": "sgd:momentum=0,nesterov=true"}, "[Nn]esterov"),
        ({"device": "warp"}, "device must be one that torch can use, got 'warp'"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epoch": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_recipe_refuses_what_has_no_meaning(change, message):
    mistakes = (SettingError, UnknownNameError, ValidationError)
    with pytest.raises(mistakes, match=message):
        recipe(**change)


def test_training_follows_from_the_recipe_alone(digits):
    made = recipe("lpf_sgd:micro_batches=2")
    split = made.selection.apply(digits)
    first = train(made, split)
    torch.rand(7)
    second = train(made, split)
    assert same(first.model, second.model)
    assert first.history == second.history
    other = train(recipe("lpf_sgd:micro_batches=2", seed=1), split)
    assert not same(first.model, other.model)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "sam", "asam", "lpf_sgd"])
def test_stopping_after_any_epoch_and_resuming_changes_no_bit(digits, optimizer):
    made = recipe(optimizer, model="small_cnn:width=2,batch_norm=true")
    split = made.selection.apply(digits)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len(kept) == made.epochs - 1
    for state in kept:
        resumed = train(made, split, resume=state)
        assert same(resumed.model, straight.model)
        assert resumed.history == straight.history


@pytest.mark.parametrize("state", [b"", b"rubbish"])
def test_a_damaged_state_costs_time_only(digits, state):
    made = recipe()
    split = made.selection.apply(digits)
    assert same(train(made, split, resume=state).model, train(made, split).model)


def test_a_state_of_another_recipe_is_not_continued(digits):
    made, other = recipe(), recipe(seed=1)
    split = made.selection.apply(digits)
    kept: list[bytes] = []
    train(other, split, keep=kept.append, keep_every=0)
    assert same(train(made, split, resume=kept[0]).model, train(made, split).model)


def test_training_learns_and_reports(digits):
    made = recipe(epochs=20, train_samples=400, model="small_cnn:width=8")
    said = []
    done = train(
        made,
        made.selection.apply(digits),
        report=lambda f, text: said.append((f, text)),
    )
    assert done.history[-1]["test_error"] < 0.3 < done.history[0]["test_error"]
    assert said[-1] == (1.0, "epoch 20/20")
    assert [row["epoch"] for row in done.history] == list(range(1, 21))


def test_training_that_diverges_stops_with_a_reason(digits):
    made = recipe("sgd:lr=1e6")
    with pytest.raises(
        TrainingFailedError, match=r"^the running training loss became nan in epoch 2;"
    ):
        train(made, made.selection.apply(digits))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_learning_rates_start_at_the_base_and_follow_the_name(schedule):
    made = recipe(lr_schedule=schedule, epochs=8, batch_size=10)
    rate = made.make_lr_schedule(100)
    seen = [rate(t) for t in (0, 39, 40, 60, 79)]
    expected = {
        "constant": [0.05] * 5,
        "step": [0.05, 0.05, 0.005, 0.0005, 0.0005],
    }
    if schedule in expected:
        assert seen == pytest.approx(expected[schedule])
    assert seen[0] == 0.05
    warm = recipe(lr_schedule=schedule, warmup_epochs=1, batch_size=10)
    assert warm.make_lr_schedule(100)(0) == pytest.approx(0.05 / 11)


def test_scores_weigh_samples_alike_and_leave_modes_alone(digits):
    made = recipe()
    split = made.selection.apply(digits)
    model = made.make_model(split.in_shape, 10)
    model[0].train(False)
    x, y = split.test
    whole = evaluate(model, x, y, batch_size=1000)
    parts = evaluate(model, x, y, batch_size=7)
    assert parts.error == whole.error
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert model.training
    assert not model[0].training


@pytest.fixture
def saved(digits, tmp_path):
    made = recipe(epochs=1)
    split = made.selection.apply(digits)
    model = train(made, split).model
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        checkpoints.to_bytes(model, made, split.in_shape, 10, split.fingerprint)
    )
    return path, made, model


def test_a_checkpoint_gives_back_network_and_recipe(saved):
    path, made, model = saved
    loaded = checkpoints.load(path)
    assert same(loaded.model, model)
    assert loaded.recipe == made
    assert loaded.in_shape == (1, 8, 8)
    assert loaded.classes == 10
    assert loaded.versions["torch"] == torch.__version__


def test_a_checkpoint_that_is_cut_off_is_refused(saved):
    path = saved[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoints.load(path)


def test_a_checkpoint_with_a_flipped_bit_is_refused(saved):
    path = saved[0]
    contents = bytearray(path.read_bytes())
    contents[-5] ^= 1
    path.write_bytes(bytes(contents))
    with pytest.raises(CheckpointError, match="do not match their checksum"):
        checkpoints.load(path)


def test_weights_of_another_program_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="weights without a recipe"):
        checkpoints.load(path)


def test_a_missing_checkpoint_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoints.load(tmp_path / "none.safetensors")


def test_a_pickle_is_not_loaded(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoints.load(path)


def test_a_checkpoint_of_a_newer_format_is_refused(saved, monkeypatch):
    path, made, model = saved
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    path.write_bytes(checkpoints.to_bytes(model, made, (1, 8, 8), 10, "f"))
    monkeypatch.setattr(checkpoints, "FORMAT", 1)
    with pytest.raises(CheckpointError, match="upgrade steppe"):
        checkpoints.load(path)


def test_a_checkpoint_of_another_network_is_refused(saved):
    path, made, _ = saved
    other = made.make_model((1, 8, 8), 7)
    path.write_bytes(checkpoints.to_bytes(other, made, (1, 8, 8), 10, "f"))
    with pytest.raises(CheckpointError, match="does not make the network"):
        checkpoints.load(path)


def test_code_of_the_user_can_be_model_and_data(digits, tmp_path, monkeypatch):
    code = """
import torch
from steppe_lab import datasets

def build(in_shape, classes, *, hidden: int = 3):
    size = torch.Size(in_shape).numel()
    layers = torch.nn.Linear(size, hidden), torch.nn.Linear(hidden, classes)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)

def load(*, data_dir=None):
    return datasets.load("digits", data_dir)
"""
    (tmp_path / "my_nets.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    made = recipe(model="my_nets:build:hidden=4", data="my_nets:load")
    assert made.model == Choice("my_nets:build", {"hidden": 4})
    split = made.selection.apply(datasets.load(made.data.name))
    assert train(made, split).model[1].out_features == 4
    assert Recipe.model_validate_json(made.model_dump_json()) == made
    with pytest.raises((UnknownNameError, ValidationError), match="cannot be imported"):
        recipe(model="my_nets:missing")
