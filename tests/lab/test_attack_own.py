"""`steppe attack` on networks and data of somebody else: units, and refusals."""

from __future__ import annotations

import importlib
import json

import pytest
import torch

from attack_command import attack_command, refused
from own_files import package


@pytest.fixture
def steppe(strangers, monkeypatch, capsys):
    return attack_command(monkeypatch, capsys)


NETS = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))

def standardised():
    net = build()
    net.register_forward_pre_hook(lambda net, inputs: ((inputs[0] - 0.5) / 0.25,))
    return net

def over_tokens():
    return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3))

def over_batch():
    net = build()
    net.score_batch = 100
    return net

class Changed(nn.Sequential):
    def __init__(self, change):
        super().__init__(nn.Flatten(), nn.Linear(12, 3))
        self.change = change

    def forward(self, inputs):
        return self.change(super().forward(inputs), inputs)

def one_score(): return Changed(lambda y, x: y[:, :1])
def undefined(): return Changed(lambda y, x: y * (x[:, 0, 0, :1] - 0.5).sqrt())
def always_drops(): return Changed(lambda y, x: nn.functional.dropout(y, 0.5))
def over_rows(): return Changed(lambda y, x: y - y.mean(0))
def rounded(): return Changed(lambda y, x: y.detach().round() + 0 * y)

def of_64_rows():
    def whole(y, x):
        if len(x) < 64:
            raise ValueError("rows must be 64")
        return y
    return Changed(whole)
"""
DATA = """
import torch

def load():
    source = torch.Generator().manual_seed(0)
    inputs = torch.rand(80, 3, 2, 2, generator=source)
    return {"test": (inputs, (5 * inputs[:, 0, 0, 0]).long().clamp(max=2))}

def standardised():
    return {"test": ((load()["test"][0] - 0.5) / 0.25, load()["test"][1])}

def training():
    return load()["test"]

def never():
    raise RuntimeError("was read")

def from_five():
    return {"test": (load()["test"][0], load()["test"][1] + 5)}

def ignored():
    return {"test": (load()["test"][0], load()["test"][1] - 100)}

def larger():
    return {"test": (torch.rand(80, 3, 3, 3), load()["test"][1])}

def empty():
    return {"test": tuple(each[:0] for each in load()["test"]), "train": training()}

def broken():
    inputs = load()["test"][0]
    inputs[70, 0, 0, 0] = torch.nan
    return {"test": (inputs, load()["test"][1])}

def bytes_():
    return {"test": ((255 * load()["test"][0]).to(torch.uint8), load()["test"][1])}

def wide():
    return {"test": (3 * load()["test"][0], load()["test"][1])}

def numbers():
    return {"test": (load()["test"][0], torch.rand(80, 1))}

def tokens():
    source = torch.Generator().manual_seed(0)
    return {"test": (torch.randint(9, (80, 3), generator=source), load()["test"][1])}
"""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "attacked", nets=NETS, data=DATA) as folder:
        yield folder


def stored(folder, name="build"):
    net = getattr(importlib.import_module("attacked.nets"), name)()
    torch.save({"module.0." + k: v for k, v in net.state_dict().items()}, folder / "x")
    torch.save(net.state_dict(), folder / "net.pt")
    return ("net.pt", "--model", f"attacked.nets:{name}")


def test_a_network_and_data_of_somebody_else_are_attacked(steppe, strangers):
    words = (*stored(strangers), "--data", "attacked.data:load")
    assert "give their least and largest value, as --bounds 0 1" in refused(
        steppe, *words
    )
    options = ("--bounds", 0, 1, "--attacks", "fgsm,pgd,uniform", "--eps", "0,0.3")
    _, out, _ = steppe(*words, *options, "--json")
    record = json.loads(out)
    assert (record["samples"], record["bounds"]) == (80, [0, 1])
    shares = record["attacks"]["fgsm"]["robust_accuracy"]
    assert shares[0] == record["clean_accuracy"] > shares[1]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("build", "wide", "must lie between the bounds 0 and 1, got 0.0"),
        ("build", "numbers", "attacks need batches (inputs, classes)"),
        ("over_tokens", "tokens", "whole numbers of attacked.data:tokens; name other"),
        ("build", "bytes_", "give images as inputs.float() / 255, with --bounds 0 1"),
        ("build", "empty", "the test data of attacked.data:empty are empty"),
        ("build", "broken", "inputs of attacked.data:broken must be finite"),
        ("build", "from_five", "classes must be from 0 to 2, got "),
        ("build", "ignored", "must be numbered from 0, got -100"),
        ("build", "larger", "the model failed on inputs of shape (64, 3, 3, 3)"),
        ("build", "training", "gives no test samples but train ones; choose --part"),
        ("over_batch", "load", "depend on the other samples of a batch"),
    ],
)
def test_data_and_networks_that_cannot_be_attacked_are_refused(
    name, data, said, steppe, strangers
):
    words = (*stored(strangers, name), "--data", f"attacked.data:{data}")
    assert said in refused(steppe, *words, "--bounds", "0", "1")


def test_budgets_of_standardised_inputs_are_in_their_units(steppe, strangers, tmp_path):
    words = (*stored(strangers), "--data", "attacked.data:standardised")
    words = (*words, "--bounds", "-2", "2", "--out", tmp_path / "here")
    _, out, _ = steppe(*words, "--eps", "0.4", "--attacks", "fgsm")
    said = "in L∞ of inputs from -2 to 2 (in units of the inputs)"
    assert said in " ".join(out.split())
    page = (tmp_path / "here" / "attack.html").read_text()
    assert said in page
    assert "pixels from -2" not in page
    record = json.loads((tmp_path / "here" / "attack.json").read_text())
    assert record["protocol"] == "inputs"
    assert "do not compare with those of pixels" in record["notes"][0]
    assert "at most 4, the largest change between the bounds -2 and 2, got 9; give" in (
        refused(steppe, *words, "--eps", "9")
    )


def test_standardised_inside_the_network_a_budget_is_one_of_pixels(steppe, strangers):
    def shares(name, data, *more):
        words = (*stored(strangers, name), "--data", f"attacked.data:{data}")
        _, out, _ = steppe(*words, "--attacks", "bim", "--json", *more)
        record = json.loads(out)
        return record["protocol"], record["attacks"]["bim"]["robust_accuracy"]

    torch.manual_seed(0)
    own = shares("standardised", "load", "--bounds", 0, 1, "--eps", "0,0.02,0.1")
    state = torch.load("net.pt")
    torch.manual_seed(0)
    others = shares("build", "standardised", "--bounds", -2, 2, "--eps", "0,0.08,0.4")
    assert all(torch.equal(state[k], v) for k, v in torch.load("net.pt").items())
    assert (own[0], others[0]) == ("pixels", "inputs")
    assert own[1] == others[1]
    assert own[1][2] < own[1][0]


def test_attacks_are_refused_before_data_are_read(steppe, strangers):
    words = (*stored(strangers), "--data", "attacked.data:never", "--bounds", 0, 1)
    assert "was read" in refused(steppe, *words)
    assert "unknown attack 'pdg'" in refused(steppe, *words, "--attacks", "pdg")
    assert "samples" in refused(steppe, *words, "--samples", 0)


def test_scores_that_attacks_cannot_go_by_are_refused(steppe, strangers):
    def said(name):
        data = ("--data", "attacked.data:load", "--bounds", "0", "1")
        return refused(steppe, *stored(strangers, name), *data)

    assert "a score for each of 2 classes or more" in said("one_score")
    assert "got NaN for" in said("undefined")
    assert "differ from call to call in evaluation mode" in said("always_drops")
    assert "depend on the others of its batch" in said("over_rows")
    assert "failed on inputs of shape (32, 3, 2, 2) (torch.float32) with 'ValueErr" in (
        said("of_64_rows")
    )


def test_a_gradient_of_zero_is_no_robustness(steppe, strangers):
    words = (*stored(strangers, "rounded"), "--data", "attacked.data:load")
    _, out, _ = steppe(*words, "--bounds", 0, 1, "--attacks", "fgsm", "--json")
    (note,) = json.loads(out)["notes"]
    assert "zero for each of the first 64 samples" in note
    _, out, _ = steppe(*words, "--bounds", 0, 1, "--attacks", "fgsm")
    assert "say nothing of robustness" in " ".join(out.split())
