"""The commands on pages of surfaces, and checkpoints that are given twice."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from own_files import package, saved
from steppe_lab.cli import command_of as split
from steppe_lab.cli import main, verb_module
from steppe_lab.cli.again import command_of
from steppe_lab.cli.parsing import parse

NETS = """
from torch import nn

def build():
    return nn.Linear(3, 2)
"""
DATA = """
import torch

def load():
    def both(count, seed):
        x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
        return x, (x.sum(1) > 0).long()
    return {"train": both(20, 0), "test": both(12, 1)}

def alone():
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()
"""
OWN = ["--model", "pages.nets:build", "--data", "pages.data:load"]


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """Three networks in files."""
    with package(tmp_path, monkeypatch, "pages", nets=NETS, data=DATA):
        for seed, name in enumerate(("a.pt", "b.pt", "c.pt")):
            saved(name, seed=seed, nets="pages.nets")
        yield


def run(text):
    return main([*shlex.split(text), *OWN])


def parsed(words):
    verb, rest = split(words)
    return parse(verb_module(verb).Args, verb, "", rest, None), verb


@pytest.mark.parametrize(
    "text",
    [
        "landscape a.pt 'my net.pt' --x=-1:1:5 --exact --ignore 'head.*' none",
        "landscape a.pt --dirs eigen --eigenvectors -1 0 --out 'a b.png' c.csv",
        "landscape plot a.h5 b.h5 --vmin -0.5 --log --pictures heat surface",
        "landscape barriers a.pt b.pt --no-matched --threshold 0.1",
        "landscape project a.pt s.h5 --checkpoints b.pt c.pt --data 'mine:load'",
    ],
)
def test_the_command_of_arguments_gives_them_again(text):
    given, verb = parsed(shlex.split(text))
    words = shlex.split(command_of(given, verb))
    assert words[0] == "steppe"
    again, same = parsed(words[1:])
    assert (again, same) == (given, verb)


@pytest.mark.slow
def test_a_page_has_the_command_that_makes_it_again(networks):
    text = "landscape a.pt --x=-1:1:3 --y 0,1 --seed 4 --out p.html a.h5"
    assert run(text) == 0
    assert main(shlex.split("landscape plot a.h5 --out q.html")) == 0
    for name in ("p.html", "q.html"):
        page = html.unescape(Path(name).read_text())
        words = shlex.split(re.search(r"steppe landscape \w[^<]*", page)[0])
        content = Path(name).read_bytes()
        Path(name).unlink()
        assert main([*words[1:], *(["--overwrite"] if name == "p.html" else [])]) == 0
        assert Path(name).read_bytes() == content


@pytest.mark.slow
def test_a_checkpoint_with_the_weights_of_the_network_counts_once(networks, capsys):
    shutil.copy("c.pt", "last.pt")
    along = "--ignore none --x 0,1 --y 0,1 --dirs pca --checkpoints a.pt b.pt"
    records = []
    for more in ("", "c.pt"):
        assert run(f"landscape last.pt {along} {more} --json") == 0
        records.append(json.loads(capsys.readouterr().out))
    plain, twice = records
    shares = [each["details"]["explained_variance_ratio"] for each in (plain, twice)]
    assert shares[0] == shares[1]
    assert twice["paths"][0]["labels"] == ["a", "b", "last"]
    assert run(f"landscape last.pt {along} c.pt --out p.png") == 0
    said = capsys.readouterr().out
    assert "off the subspace" in said
    first = {line.split()[0] for line in said.splitlines() if line.strip()}
    assert {"a", "b", "last"} <= first


@pytest.mark.slow
def test_test_samples_stand_beside_those_of_training(networks, capsys):
    text = "landscape a.pt --x=-1,0,1 --y 0,1 --quantities accuracy --also-test"
    assert run(f"{text} --json") == 0
    record = json.loads(capsys.readouterr().out)
    words = [*shlex.split(text.replace(" --also-test", " --part test")), *OWN]
    assert main([*words, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    beside = record["quantities"]
    assert beside["test_loss"]["values"] == alone["loss"]
    assert beside["test_accuracy"] == alone["quantities"]["accuracy"]
    assert run(f"{text} --quantity test_loss --out p.png") == 0
    said = capsys.readouterr().out
    assert f"Test loss {alone['loss'][0][1]:.1f}"[:12] in said
    assert "Test accuracy" in said
    assert run(f"{text} --part test") == 2


@pytest.mark.slow
def test_surfaces_have_titles_in_figures(networks, capsys):
    for name in "ab":
        assert run(f"landscape {name}.pt --x 0,1 --y 0,1 --out {name}.npz") == 0
    text = "landscape plot a.npz b.npz --out p.png --titles"
    assert main([*shlex.split(text), "SGD", "with SAM"]) == 0
    assert "with SAM: On the grid" in capsys.readouterr().out
    assert main([*shlex.split(text), "SGD"]) == 2
