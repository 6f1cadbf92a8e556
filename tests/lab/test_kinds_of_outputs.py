"""Networks of somebody else that give their scores among other outputs: every verb."""

from __future__ import annotations

import importlib
import json
import shutil
import sys

import pytest
import torch

from own_files import package, saved
from steppe_lab.cli import main

NETS = """
from collections import namedtuple
from types import SimpleNamespace
import torch
from torch import nn

Both = namedtuple("Both", ["logits", "aux_logits"])

class Net(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.layer, self.form = nn.Linear(12, 3), form

    def forward(self, inputs):
        features = inputs.flatten(1)
        return self.form(features, self.layer(features))

def plain(): return Net(lambda x, y: y)
def with_object(): return Net(lambda x, y: SimpleNamespace(logits=y, hidden=x))
def with_dict(): return Net(lambda x, y: {"features": x, "logits": y})
def with_names(): return Net(lambda x, y: Both(y, y + 1))
def with_one(): return Net(lambda x, y: (y,))
def with_two(): return Net(lambda x, y: (x, y))
def with_none(): return Net(lambda x, y: {"features": x})
"""
DATA = """
import torch

def load():
    source = torch.Generator().manual_seed(0)
    inputs = torch.rand(24, 3, 2, 2, generator=source)
    pair = (inputs, (3 * inputs[:, 0, 0, 0]).long())
    return {"train": pair, "test": pair}

def second(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs[1], targets, reduction="none")
"""
VERBS = {
    "evaluate": ("--json",),
    "measure": ("loss", "gradient_norm", "--json"),
    "landscape": ("--x=-1:1:3", "--out", "line.csv"),
    "attack": ("--bounds", "0", "1", "--attacks", "fgsm,deepfool", "--json"),
    "spectrum": ("--steps", "3", "--k", "2", "--out", "spectrum", "--json"),
    "examine": ("--out", "examined.html", "--json"),
}
WRITING = ("landscape", "attack", "spectrum", "examine")  # which takes its time
SLOW = [pytest.param(verb, marks=pytest.mark.slow) for verb in WRITING]
FORMS = ("with_object", "with_dict", "with_names", "with_one")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with package(tmp_path, monkeypatch, "outputs", nets=NETS, data=DATA) as folder:
        saved(folder / "net.pt", "plain", nets="outputs.nets")
        yield folder


def called(verb, form, capsys, *more):
    words = ("net.pt", "--model", f"outputs.nets:{form}", "--data", "outputs.data:load")
    places = VERBS[verb] if verb == "measure" else ()
    options = () if verb == "measure" else VERBS[verb]
    code = main([verb, words[0], *places, *words[1:], *options, *more])
    said = capsys.readouterr()
    return code, said.out, said.err


def bare(record):
    """A record without times and digests, of which forms have their own."""
    if isinstance(record, list):
        return [bare(each) for each in record]
    if not isinstance(record, dict):
        return record
    gone = ("checkpoint", "files", "seconds", "recipe", "sha256", "digest")
    return {name: bare(each) for name, each in record.items() if name not in gone}


@pytest.mark.parametrize("verb", ["evaluate", "measure", *SLOW])
def test_scores_among_other_outputs_are_used(verb, folder, capsys):
    def result(form):
        code, out, err = called(verb, form, capsys)
        assert code == 0, err
        if verb == "landscape":
            return (folder / "line.csv").read_text()
        return bare(json.loads(out.replace(form, "plain")))

    expected = result("plain")
    for form in FORMS:
        (folder / "line.csv").unlink(missing_ok=True)
        shutil.rmtree(folder / "spectrum", ignore_errors=True)
        assert result(form) == expected, form


@pytest.mark.parametrize("verb", VERBS)
def test_outputs_without_a_name_are_refused(verb, folder, capsys):
    for form, got in (("with_two", "a tuple of 2"), ("with_none", "dict with feat")):
        code, out, err = called(verb, form, capsys)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert f"which output of the network its scores are, got {got}" in err
        assert "let its forward give one tensor" in err


def test_a_loss_of_the_user_gets_all_outputs(folder, capsys):
    loss = ("--loss", "outputs.data:second")
    code, out, err = called("evaluate", "with_two", capsys, *loss)
    assert code == 0, err
    _, expected, _ = called("evaluate", "plain", capsys)
    assert json.loads(out)["test_loss"] == json.loads(expected)["test_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
def test_image_classifiers_of_hugging_face_are_attacked(kind, folder, capsys):
    pytest.importorskip("transformers")
    sizes = {
        "ViT": {
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 8,
            "image_size": 4,
            "patch_size": 2,
        },
        "ResNet": {"embedding_size": 4, "hidden_sizes": [4], "depths": [1]},
    }[kind]
    code = f"images_{kind.lower()}"
    (folder / "outputs" / f"{code}.py").write_text(
        "import torch\nimport transformers\n"
        "def build():\n"
        f"    config = transformers.{kind}Config(num_labels=3, **{sizes!r})\n"
        f"    return transformers.{kind}ForImageClassification(config)\n"
        "def load():\n"
        "    source = torch.Generator().manual_seed(0)\n"
        "    inputs = torch.rand(24, 3, 4, 4, generator=source)\n"
        "    pair = (inputs, (3 * inputs[:, 0, 0, 0]).long())\n"
        "    return {'train': pair, 'test': pair}\n"
    )
    model = saved(folder / "hf.pt", nets=f"outputs.{code}")
    named = ("hf.pt", "--model", f"outputs.{code}:build")
    named = (*named, "--data", f"outputs.{code}:load", "--json")
    assert main(["attack", *named, "--bounds", "0", "1", "--eps", "0", "0.5"]) == 0
    record = json.loads(capsys.readouterr().out)
    inputs, targets = importlib.import_module(f"outputs.{code}").load()["test"]
    with torch.no_grad():
        right = (model(inputs).logits.argmax(1) == targets).double().mean().item()
    assert record["clean_accuracy"] == pytest.approx(right)
    assert main(["evaluate", *named]) == 0
    assert json.loads(capsys.readouterr().out)["test_accuracy"] == pytest.approx(right)
