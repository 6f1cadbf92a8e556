"""Recipes, the training loop and checkpoints."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file

from small_trainings import same_weights
from steppe.errors import CheckpointError, DataError, SettingError, UnknownNameError
from steppe.registry.registry import Choice
from steppe_lab import datasets
from steppe_lab.datasets import TensorSamples
from steppe_lab.progress import Progress
from steppe_lab.tasks.classification import Classification
from steppe_lab.training import checkpoints, loop
from steppe_lab.training import state as states
from steppe_lab.training.build import build_lr_schedule, build_model
from steppe_lab.training.evaluation import evaluate
from steppe_lab.training.failures import TrainingFailedError
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_ready, check_settings
from steppe_lab.training.recipe import Recipe


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
        ({"base": "sgd:lr=-1"}, "sgd: lr must be >= 0, got -1"),
        ({"base": "sgd:momentum=0,nesterov=true"}, "[Nn]esterov"),
        ({"device": "warp"}, "device must be one that torch can use, got 'warp'"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epoch": 1}, "Extra inputs are not permitted"),
        ({"device": "meta"}, "device must be one that torch can use, got 'meta'"),
        ({"seed": 2**32}, "seed\n  Input should be less than 4294967296"),
        ({"data_seed": -1}, "data_seed\n  Input should be greater"),
        ({"warmup_epochs": float("inf")}, "warmup_epochs\n  Input should be a finite"),
        ({"base": "sgd:lr=inf"}, "lr must be a finite number, got inf"),
    ],
)
def test_a_recipe_refuses_what_has_no_meaning(change, message):
    mistakes = (SettingError, UnknownNameError, ValidationError)
    with pytest.raises(mistakes, match=message):
        check_settings(recipe(**change))


def test_training_follows_from_the_recipe_alone(digits):
    made = recipe("lpf_sgd:micro_batches=2")
    split = made.selection.apply(digits)
    first = train(made, split)
    torch.rand(7)
    second = train(made, split)
    assert same_weights(first.model, second.model)
    assert first.history == second.history
    other = train(recipe("lpf_sgd:micro_batches=2", seed=1), split)
    assert not same_weights(first.model, other.model)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "sam", "asam", "lpf_sgd"])
def test_stopping_after_any_epoch_and_resuming_changes_no_bit(digits, optimizer):
    made = recipe(optimizer, model="small_cnn:width=2,batch_norm=true")
    split = made.selection.apply(digits)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len(kept) == made.epochs - 1
    for state in kept:
        resumed = train(made, split, resume=state)
        assert same_weights(resumed.model, straight.model)
        assert resumed.history == straight.history


def test_code_that_draws_with_numpy_or_python_repeats_itself(digits, monkeypatch):
    """In every process, in every order of runs, and after a stop."""

    def noisy(*arguments):
        inputs, targets = fetch(*arguments)
        noise.append(random.random() + np.random.random())  # noqa: NPY002
        return inputs + noise[-1], targets

    fetch, noise, kept = loop.fetch, [], []
    monkeypatch.setattr(loop, "fetch", noisy)
    made = recipe(epochs=2)
    split = made.selection.apply(digits)
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len(set(noise)) == len(noise)
    assert same_weights(train(made, split).model, straight.model)
    assert same_weights(train(made, split, resume=kept[0]).model, straight.model)
    once = noise[:]
    train(recipe(epochs=2, seed=1), split)
    assert not set(noise[-2:]) & set(once)


@pytest.mark.parametrize("state", [b"", b"rubbish"])
def test_a_damaged_state_costs_time_only(digits, state):
    made = recipe()
    split = made.selection.apply(digits)
    assert same_weights(
        train(made, split, resume=state).model, train(made, split).model
    )


def test_a_state_of_another_recipe_is_not_continued(digits):
    made, other = recipe(), recipe(seed=1)
    split = made.selection.apply(digits)
    kept: list[bytes] = []
    train(other, split, keep=kept.append, keep_every=0)
    assert same_weights(
        train(made, split, resume=kept[0]).model, train(made, split).model
    )


def test_training_learns_and_reports(digits):
    made = recipe(epochs=20, train_samples=400, model="small_cnn:width=8")
    said = []
    done = train(
        made,
        made.selection.apply(digits),
        report=said.append,
    )
    assert done.history[-1]["test_error"] < 0.3 < done.history[0]["test_error"]
    last = Progress(20, 20, "epoch 20/20", row=said[-1].row)
    assert said[-1] == last
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
    rate = build_lr_schedule(made, 100)
    seen = [rate(t) for t in (0, 39, 40, 60, 79)]
    expected = {
        "constant": [0.05] * 5,
        "step": [0.05, 0.05, 0.005, 0.0005, 0.0005],
    }
    if schedule in expected:
        assert seen == pytest.approx(expected[schedule])
    assert seen[0] == 0.05
    warm = recipe(lr_schedule=schedule, warmup_epochs=1, batch_size=10)
    assert build_lr_schedule(warm, 100)(0) == pytest.approx(0.05 / 11)


def test_scores_weigh_samples_alike_and_leave_modes_alone(digits):
    made = recipe()
    split = made.selection.apply(digits)
    model = build_model(made, split.in_shape, 10)
    model[0].train(False)
    whole = evaluate(model, split.test, Classification(), batch_size=1000)
    parts = evaluate(model, split.test, Classification(), batch_size=7)
    assert parts.metrics == whole.metrics
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
    assert same_weights(loaded.model, model)
    assert loaded.recipe == made
    assert loaded.in_shape == (1, 8, 8)
    assert loaded.outputs == 10
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
    with pytest.raises(CheckpointError, match="is a torch state_dict, without a rec"):
        checkpoints.load(path)


def test_a_checkpoint_of_a_newer_format_is_refused(saved, monkeypatch):
    path, made, model = saved
    monkeypatch.setattr(checkpoints, "FORMAT", 3)
    path.write_bytes(checkpoints.to_bytes(model, made, (1, 8, 8), 10, "f"))
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="upgrade steppe"):
        checkpoints.load(path)


def test_a_checkpoint_of_another_network_is_refused(saved):
    path, made, _ = saved
    other = build_model(made, (1, 8, 8), 7)
    path.write_bytes(checkpoints.to_bytes(other, made, (1, 8, 8), 10, "f"))
    with pytest.raises(CheckpointError, match="does not make the network"):
        checkpoints.load(path)


def altered(path, change):
    """Write a checkpoint with other metadata, which its checksum fits."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["steppe"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = change(about)
    if isinstance(about.get("sha256"), str) and isinstance(about.get("format"), int):
        about["sha256"] = checkpoints.checksum(about, tensors)
    text = changed if isinstance(changed, str) else json.dumps(about)
    save_file(tensors, path, metadata={"steppe": text})


def test_a_device_that_is_not_there_is_named_and_not_the_recipe(saved):
    path = saved[0]
    with pytest.raises(SettingError, match=r"^device must be one that torch can use"):
        checkpoints.load(path, device="warp")
    altered(path, lambda about: about["recipe"].update(device="warp"))
    with pytest.raises(CheckpointError, match=r"trained elsewhere: .*--device cpu"):
        checkpoints.load(path)
    assert checkpoints.load(path, device="cpu").recipe.device == "cpu"


@pytest.mark.parametrize("kind", ["data", "model", "base", "optimizer"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_checkpoint_runs_no_code_that_is_not_trusted(
    saved, tmp_path, monkeypatch, kind, as_text
):
    path, touched = saved[0], tmp_path / "touched"
    (tmp_path / f"evil_{kind}.py").write_text(
        f"from pathlib import Path\nPath({str(touched)!r}).touch()\nrun = print\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = f"evil_{kind}:run"
    choice = name if as_text else {"name": name, "settings": {}}
    altered(path, lambda about: about["recipe"].update({kind: choice}))
    with pytest.raises(CheckpointError, match=r"--trust evil|does not say what it"):
        checkpoints.load(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda about: "{",
        lambda about: "{}",
        lambda about: "[]",
        lambda about: about.update(in_shape=None),
        lambda about: about.update(in_shape=[1, -8, 8]),
        lambda about: about.update(in_shape=[1, 8.5]),
        lambda about: about.update(in_shape=[]),
        lambda about: about.update(classes=True),
        lambda about: about.update(classes=0),
        lambda about: about.update(recipe=None),
        lambda about: about.update(versions=3),
        lambda about: about.update(format="1"),
        lambda about: about.pop("data"),
        lambda about: about["recipe"].update(model={"name": 3, "settings": {}}),
    ],
)
def test_metadata_that_are_no_metadata_are_one_sentence(saved, change):
    altered(saved[0], change)
    with pytest.raises(CheckpointError, match="does not say what it holds") as caught:
        checkpoints.load(saved[0])
    assert "\n" not in str(caught.value)


NETS = """
import random
import numpy as np
import torch
from steppe_lab import datasets

def build(in_shape, classes, *, hidden: int = 3):
    size = torch.Size(in_shape).numel()
    layers = torch.nn.Linear(size, hidden), torch.nn.Linear(hidden, classes)
    with torch.no_grad():
        layers[0].bias.fill_(random.random() + np.random.rand())
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)

def load(*, data_dir=None):
    return datasets.load("digits", data_dir)
"""


@pytest.fixture
def write_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str = NETS):
        (tmp_path / f"{name}.py").write_text(text)
        return tmp_path / f"{name}.py"

    return write


def test_code_of_the_user_can_be_model_and_data(write_code):
    write_code("my_nets")
    made = recipe(model="my_nets:build:hidden=4", data="my_nets:load")
    assert made.model == Choice("my_nets:build", {"hidden": 4})
    assert set(made.code) == {"my_nets:build", "my_nets:load"}
    split = made.selection.apply(datasets.load(made.data))
    assert train(made, split).model[1].out_features == 4
    assert Recipe.model_validate_json(made.model_dump_json()) == made
    with pytest.raises((UnknownNameError, ValidationError), match="cannot be imported"):
        recipe(model="my_nets:missing")


def _np_state() -> list[int]:
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_code_of_the_user_runs_under_fixed_seeds_and_leaves_them_alone(write_code):
    write_code("random_nets")
    made = recipe(model="random_nets:build")
    states = random.getstate(), _np_state(), torch.get_rng_state()
    first, second = build_model(made, (4,), 2), build_model(made, (4,), 2)
    assert same_weights(first, second)
    assert not same_weights(
        first, build_model(recipe(model="random_nets:build", seed=1), (4,), 2)
    )
    assert random.getstate() == states[0]
    assert _np_state() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_other_code_is_another_recipe_and_refuses_the_old_checkpoint(
    write_code, tmp_path
):
    file = write_code("nets_that_change")
    made = recipe(model="nets_that_change:build")
    path = tmp_path / "model.safetensors"
    model = build_model(made, (1, 8, 8), 10)
    path.write_bytes(checkpoints.to_bytes(model, made, (1, 8, 8), 10, "f"))
    trusted = ("nets_that_change:build",)
    assert same_weights(checkpoints.load(path, trust=trusted).model, model)
    file.write_text(NETS + "# changed\n")
    assert recipe(model="nets_that_change:build") != made
    with pytest.raises(CheckpointError, match=r"source of nets_.* is not what it was"):
        checkpoints.load(path, trust=trusted)


CONTRACT = (
    r"made by build\(\) or build\(in_shape, classes, \*, settings\.\.\.\) -> "
    r"nn\.Module\.$"
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def build(shape):\n    return 1", r"bad\d:build failed \(TypeError: .*"),
        ("def build(i, c):\n    raise ValueError('no\\nt')", r"\(ValueError: no\); .*"),
        ("def build(i, c):\n    return 3", r"must give an nn\.Module, got int; .*"),
        ("def build(i, c):\n    return nn.Flatten()", "has no parameters to train; .*"),
        ("def build(i, c):\n    return nn.Linear(3, 4)", "cannot be called with .*"),
        ("def build(i, c):\n    return nn.Conv2d(1, 2, 3)", "one number per class.*"),
    ],
    ids=range(6),
)
def test_a_mistake_in_a_model_of_the_user_is_one_sentence(
    write_code, body, said, request
):
    name = f"bad{request.node.callspec.indices['body']}"
    write_code(name, f"from torch import nn\n{body}\n")
    with pytest.raises(SettingError, match=said + CONTRACT) as caught:
        check_ready(recipe(model=f"{name}:build"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def load():\n    pass", r"gave None; load\(\) gives \(inputs, targets\)"),
        ("def load(*, data_dir):\n    return 3", r"gave 3; load\(\) gives \(inputs,"),
        (
            "def load(*, data_dir):\n    return open('/no')",
            "failed .FileNotFoundError.*; data is read by",
        ),
    ],
    ids=range(3),
)
def test_a_mistake_in_data_of_the_user_is_one_sentence(write_code, body, said, request):
    name = f"poor{request.node.callspec.indices['body']}"
    write_code(name, body)
    with pytest.raises(DataError, match=rf"^data {name}:load {said}") as caught:
        check_ready(recipe(data=f"{name}:load"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", ["1 / 0", "import sys\nsys.exit(3)", "def ("])
def test_code_of_the_user_that_cannot_be_imported_is_one_sentence(write_code, body):
    name = f"broken{len(body)}"
    write_code(name, body)
    with pytest.raises((UnknownNameError, ValidationError), match="cannot be imported"):
        recipe(model=f"{name}:build")


def test_a_last_batch_of_one_is_refused_for_batch_norm_alone():
    lonely = {"train_samples": 65, "batch_size": 64}
    with pytest.raises(SettingError, match="batch norm needs 2 samples in every batch"):
        check_ready(recipe(model="small_cnn:width=2,batch_norm=true", **lonely))
    check_ready(recipe(**lonely))


def test_an_infinite_test_loss_is_a_finding_and_no_failure(digits):
    made = recipe("sgd", epochs=1)
    split = made.selection.apply(digits)
    bad = torch.full_like(split.test.inputs, math.inf)
    done = train(
        made, dataclasses.replace(split, test=TensorSamples(bad, split.test.targets))
    )
    assert math.isnan(done.history[0]["test_loss"])


def test_seconds_before_a_stop_are_counted(digits):
    made = recipe("sgd")
    split = made.selection.apply(digits)
    kept: list[bytes] = []
    train(made, split, keep=kept.append, keep_every=0)
    state = torch.load(io.BytesIO(states.opened(kept[-1])), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**state, "seconds": 1000.0}, buffer)
    assert train(made, split, resume=states.sealed(buffer.getvalue())).seconds > 1000


ASKED = """
import sys
import torch
from steppe_lab.training.readiness import check_ready
from steppe_lab.training.recipe import Recipe

check_ready(Recipe(data="digits", model="small_cnn", optimizer="sam", base="sgd"))
print("torch._dynamo" in sys.modules)
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_checks_do_not_wait_for_the_compiler_and_leave_optimizers_as_they_were():
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
