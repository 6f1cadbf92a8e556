"""`steppe evaluate`, and weights that another program saved."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steppe.errors import CheckpointError
from steppe_lab.cli import main
from steppe_lab.datasets import load
from steppe_lab.models import MODELS
from steppe_lab.training.foreign import load_into, weights

MODEL = "mlp:hidden=8"
NAMED = ["--model", MODEL, "--data", "digits"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(MODEL, (1, 8, 8), 10)


def scored(model, samples):
    """Loss and accuracy by hand."""
    with torch.no_grad():
        outputs = model(samples.inputs)
    right = (outputs.argmax(1) == samples.targets).double().mean()
    return F.cross_entropy(outputs, samples.targets).item(), right.item()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda model: model.state_dict(),
        lambda model: {"acc": 0.5, "state_dict": model.state_dict()},
        lambda model: {"epoch": 3, "model": nn.DataParallel(model).state_dict()},
        lambda model: {
            "state_dict": torch.compile(model, backend="eager").state_dict(),
            "optimizer": {},
        },
    ],
)
def test_weights_that_another_program_saved_are_scored(
    wrapped, model, tmp_path, capsys
):
    path = tmp_path / "theirs.pt"
    torch.save(wrapped(model), path)
    assert main(["evaluate", str(path), *NAMED, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    loss, accuracy = scored(model, load("digits").test)
    assert scores["test_loss"] == pytest.approx(loss, rel=1e-6)
    assert scores["test_accuracy"] == accuracy
    assert scores["test_error"] == pytest.approx(1 - accuracy)
    assert (scores["train_samples"], scores["test_samples"]) == (1000, 500)


def test_they_are_measured_on_the_data_that_is_named(model, tmp_path, capsys):
    path = tmp_path / "theirs.pt"
    torch.save(model.state_dict(), path)
    assert main(["measure", str(path), "trace", *NAMED, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["stderr"] == 0.0


def test_weights_of_another_network_are_refused_by_their_names(model, tmp_path):
    state = model.state_dict()
    state["head.bias"] = state.pop("1.weight")
    state["3.bias"] = torch.zeros(5)
    sentence = (
        r"lacks 1\.weight; it has head\.bias; of another shape are 3\.bias \(5,\)"
    )
    with pytest.raises(CheckpointError, match=sentence):
        load_into(model, state, tmp_path / "theirs.pt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"epoch": 3}, "holds no state_dict"),
        (nn.Linear(2, 2), "a torch file of Python objects"),
        (None, "there is no file"),
    ],
)
def test_files_without_weights_are_refused(content, sentence, tmp_path):
    path = tmp_path / "theirs.pt"
    for each in [content] if content else []:
        torch.save(each, path)
    with pytest.raises(CheckpointError, match=sentence):
        weights(path)


def test_a_model_without_its_data_is_refused(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "a.pt"), "--model", MODEL]) == 2
    assert "--model and --data go together" in capsys.readouterr().err
