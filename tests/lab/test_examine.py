"""The examination of a checkpoint of somebody else."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import steppe
import steppe.measures as measures
from own_files import package, saved
from steppe.measures import GradientNoise, Rounding
from steppe_lab.cli import main

NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
"""
DATA = """
import torch

def load():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()
"""
OWN = ("--model", "examined.nets:build", "--data", "examined.data:load")


@pytest.fixture
def model(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "examined", nets=NETS, data=DATA):
        yield saved("a.pt", nets="examined.nets")


@pytest.mark.slow
def test_numbers_are_those_of_the_library_and_the_page_says_how_to_repeat(
    model, capsys
):
    words = ["examine", "a.pt", *OWN, "--out", "page.html", "--json"]
    assert main([*words, "--samples", "60", "--curvature-samples", "40"]) == 0
    printed = json.loads(capsys.readouterr().out)
    from examined import data

    objective = steppe.Objective(model, data.load())
    expected = steppe.examine(objective, samples=60, curvature_samples=40, name="a.pt")
    for subject, group in expected.groups.items():
        for name, estimate in group.items():
            record = printed["groups"][subject][name]
            assert bool(record["refusal"]) == bool(estimate.refusal)
            if estimate.refusal:
                continue
            assert record["value"] == pytest.approx(estimate.value, rel=1e-5), name
    assert printed["files"] == ["page.html", "page.json"]
    record = json.loads(Path("page.json").read_text())
    assert record["groups"] == printed["groups"]
    page = Path("page.html").read_text()
    again = page.split("<pre><code>")[1].split("</code>")[0]
    assert "--samples 60 --curvature-samples 40" in again
    assert "page.json" in page

    assert main([*shlex.split(again)[1:], "--out", "b.html", "--json"]) == 0
    repeated = json.loads(capsys.readouterr().out)["groups"]
    for subject, group in printed["groups"].items():
        for name, record in group.items():
            same = {"value", "stderr", "samples", "refusal"}
            theirs = repeated[subject][name]
            assert {k: theirs[k] for k in same} == {k: record[k] for k in same}


def test_the_table_fits_and_a_bad_place_is_told_before_any_work(model, capsys):
    sizes = "--samples", "20", "--curvature-samples", "20"
    words = ["examine", "a.pt", *OWN, *sizes]
    assert main([*words, "--out", "page.html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("curvature") for line in lines)
    assert main([*words, "--out", "page.pdf"]) == 2
    assert "must be a page that ends in .html, got page.pdf" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_stopped(model, capsys, monkeypatch):
    words = ["examine", "a.pt", *OWN, "--json"]
    assert main([*words, "--keep", "whole"]) == 0
    whole = json.loads(capsys.readouterr().out)
    stops = {"rounding": Rounding, "gradient_noise": GradientNoise}
    for name, measure in stops.items():
        with monkeypatch.context() as patch:
            patch.setattr(measure, "estimate", _stopped)
            assert main([*words, "--keep", "kept"]) == 130, name
        assert "the same command goes on there" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr("steppe.examination.examine._lines", _stopped)
        assert main([*words, "--keep", "kept"]) == 130
    capsys.readouterr()
    (path,) = Path("kept/examinations").iterdir()
    path.write_bytes(path.read_bytes() + b'{"asked": "cut o')

    with monkeypatch.context() as patch:
        # Tails of so small a matrix are refused, and asked for again.
        for module in ("Rounding", "GradientNoise", "LPF", "Pruning"):
            patch.setattr(getattr(measures, module), "estimate", _never)
        patch.setattr("steppe.examination.examine._spectrum", _never)
        patch.setattr("steppe.examination.examine.timed", _never)
        assert main([*words, "--keep", "kept"]) == 0
    done = capsys.readouterr()
    assert "14 parts were finished before" in done.err
    _assert_same(json.loads(done.out), whole)


def _stopped(*_):
    raise KeyboardInterrupt


def _never(*_):
    raise AssertionError


def _assert_same(one, other):
    for record in (one, other):
        record.pop("seconds")
        record.pop("cost")
        for group in record["groups"].values():
            for estimate in group.values():
                estimate.pop("seconds")
    assert one == other
