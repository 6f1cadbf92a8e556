"""Lines around and between checkpoints of somebody else, and their comparison."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import steppe
from own_files import package, saved
from steppe_lab.cli import main

NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))

def other():
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
"""
DATA = """
import torch

def load():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()
"""
OWN = ("--model", "both.nets:build", "--data", "both.data:load")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "both", nets=NETS, data=DATA) as folder:
        yield folder


@pytest.fixture
def pair(theirs):
    """Two networks, saved with prefixes, and the objective of each."""
    from both import data

    models = []
    for seed, name in enumerate(("a.pt", "b.pt")):
        models.append(saved(name, wrap=prefixed, seed=seed, nets="both.nets"))
    return [steppe.Objective(model, data.load()) for model in models]


def prefixed(state):
    return {"model": {f"module.{name}": tensor for name, tensor in state.items()}}


def printed(capsys, *words):
    assert main([*words, *OWN, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_line_between_two_files_is_that_of_the_library(pair, capsys):
    a, b = pair
    line = steppe.Line.between(a.model, b.model)
    expected = steppe.landscape(a, line, x=(0, 1, 5), batch_norm="interpolate")
    words = ["landscape", "a.pt", "b.pt", "--batch-norm", "interpolate"]
    record = printed(capsys, *words, "--x", "0:1:5")
    assert record["x"] == list(expected.x)
    assert record["loss"] == pytest.approx(expected.loss.tolist(), rel=1e-6)
    assert record["stderr"] == pytest.approx(expected.stderr.tolist(), rel=1e-6)
    ends = [a.value().value, b.value().value]
    assert [record["loss"][0], record["loss"][-1]] == pytest.approx(ends, rel=1e-6)


def test_a_random_line_is_drawn_and_its_numbers_are_beside(pair, capsys):
    out = ["--out", "pictures/line.png", "pictures/line.csv"]
    line = ["--dims", "1", "--x", "-1:1:7", "--seed", "3"]
    words = ["landscape", "a.pt", *OWN, *out, *line]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "at a.pt (0)" in told
    assert Path("pictures/line.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(Path("pictures/line.csv").read_text().splitlines()))
    line = steppe.Line.random(pair[0].model, seed=3)
    expected = steppe.landscape(pair[0], line, x=(-1, 1, 7))
    assert [float(row["loss"]) for row in rows] == pytest.approx(
        expected.loss.tolist(), rel=1e-6
    )


def test_the_barrier_between_two_files_is_said(pair, capsys):
    assert main(["landscape", "a.pt", "b.pt", *OWN, "--x", "0:1:5"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "at a.pt (0) and" in told
    assert "at b.pt (1)." in told
    assert "Between the two it" in told


def test_a_dollar_in_the_name_of_a_file_is_no_formula(pair, capsys):
    saved("$_^$.pt", nets="both.nets")
    assert main(["landscape", "a.pt", "$_^$.pt", *OWN, "--x", "0:1:3"]) == 0
    assert "at $_^$.pt (1)." in " ".join(capsys.readouterr().out.split())


def test_two_files_are_compared_as_in_the_library(pair, capsys):
    expected = steppe.compare(*pair, ["loss", "trace"], groups=5, repeats=2)
    few = ["--groups", "5", "--repeats", "2"]
    words = ["measure", "a.pt", "loss", "trace", "--and", "b.pt", *few]
    record = printed(capsys, *words)
    for name, difference in expected.items():
        row = record["comparisons"]["b.pt"]["measures"][name]
        assert row["difference"] == pytest.approx(difference.total.value, rel=1e-5)
        assert [row["low"], row["high"]] == pytest.approx(difference.interval, rel=1e-4)
    assert main([*words, *OWN]) == 0
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["landscape", "a.pt", "c.pt"], "the weights in c.pt are not those of this"),
        (["landscape", "a.pt", "missing.pt"], "there is no file missing.pt"),
        (
            ["landscape", "a.pt", "--x", "2:1:5"],
            "x must start below its stop, got 2",
        ),
        (["landscape", "a.pt", "--x", "-1:1:1"], "x must have from 2 to"),
        (["landscape", "a.pt", "--x", "-1:1"], "x takes START:STOP:COUNT as"),
        (
            ["landscape", "a.pt", "--out", "line.pdf"],
            "got line.pdf; checkpoints come before options",
        ),
        (["measure", "a.pt", "loss", "--and", "a.pt"], ""),
        (["measure", "a.pt", "loss", "--and", "c.pt"], "the weights in c.pt"),
    ],
)
def test_pairs_that_do_not_fit_are_one_sentence(pair, capsys, words, sentence):
    saved("c.pt", "other", nets="both.nets")
    code = main([*words, *OWN])
    said = capsys.readouterr().err.replace("[20/20] measuring both\n", "")
    assert code == (2 if sentence else 0)
    assert sentence in said


def huge(state):
    return {n: t * 1e30 if t.dim() == 2 else t for n, t in state.items()}


def test_a_line_of_a_network_that_breaks_says_how_many_points_are_lost(theirs, capsys):
    saved("a.pt", wrap=huge, nets="both.nets")
    assert main(["landscape", "a.pt", *OWN, "--dims", "1", "--x=-1,0,1"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "of 3 points the loss is not finite" in told
