"""Barriers between checkpoints and between the runs of a store, kept pair by pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import in_process
import steppe
from own_files import package, saved
from steppe.errors import CheckpointError, DataError, SettingError
from steppe.measures import Barrier
from steppe_lab.analysis import trained
from steppe_lab.analysis.barriers import Asked, Noted, barriers_between, checkpoints_at
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.cli import main
from steppe_lab.runs.barrier_settings import BarrierSettings

NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
"""
DATA = """
import torch

def load():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()
"""
OURS = Belongs("barred.nets:build", "barred.data:load")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "barred", nets=NETS, data=DATA) as folder:
        for seed, name in enumerate(("a.pt", "b.pt", "c.pt")):
            saved(name, seed=seed, nets="barred.nets")
        yield folder


def asked(*names, **more):
    settings = BarrierSettings(points=5, **more.pop("settings", {}))
    return Asked([Path(n) for n in names], settings, belongs=OURS, **more)


def test_they_are_those_of_the_library_and_known_to_the_next_call(theirs, monkeypatch):
    steps = []
    ask = asked(
        *("a.pt", "b.pt", "c.pt"),
        settings={"curve_steps": 3},
        keep=Path("kept"),
        report=steps.append,
    )
    found = barriers_between(ask)
    assert found.value.names == ("a.pt", "b.pt", "c.pt")
    assert list(found.value.paths) == ["straight", "matched", "curve"]
    assert [(s.done, s.total) for s in steps] == [(i, 9) for i in range(1, 10)]
    assert steps[0].text == "between a.pt and b.pt"
    assert "finished before" not in "".join(found.notes)
    nets = [saved(f"{n}.pt", seed=i, nets="barred.nets") for i, n in enumerate("abc")]
    x, y = __import__("barred.data").data.load()
    alone = Barrier(points=5)(steppe.Objective(nets[0], (x, y)), other=nets[2])
    one = found.value.paths["straight"]["a.pt", "c.pt"]
    assert one.value == pytest.approx(alone.value, rel=1e-5, abs=1e-7)

    def none(*_args):
        raise AssertionError("measured again")

    monkeypatch.setattr("steppe.comparisons.barriers._Work.measured", none)
    again = barriers_between(ask)
    assert again.value.to_dict()["paths"] == found.value.to_dict()["paths"]
    assert "9 barriers were finished before, and read from kept/" in again.notes[-1]
    # Another order of the files, or fewer paths, finds what it has in common.
    fewer = asked("a.pt", "c.pt", settings={"no_matched": True}, keep=Path("kept"))
    assert "1 barrier was finished" in barriers_between(fewer).notes[-1]
    with pytest.raises(AssertionError, match="measured again"):
        barriers_between(asked("c.pt", "a.pt", keep=Path("kept")))


def test_a_call_that_was_interrupted_goes_on(theirs):
    def stop(progress):
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        barriers_between(asked("a.pt", "b.pt", "c.pt", keep=Path("kept"), report=stop))
    found = barriers_between(asked("a.pt", "b.pt", "c.pt", keep=Path("kept")))
    assert "2 barriers were finished before" in found.notes[-1]
    whole = barriers_between(asked("a.pt", "b.pt", "c.pt"))
    assert whole.value.matrix().equal(found.value.matrix())


def test_a_folder_that_cannot_be_written_is_said_and_stops_nothing(theirs):
    Path("kept").write_text("a file")
    said = []
    ask = asked("a.pt", "b.pt", keep=Path("kept"), failed=said.append)
    assert barriers_between(ask).value.names == ("a.pt", "b.pt")
    assert len(said) == 1
    assert "finished barriers are not kept" in said[0]


@pytest.mark.slow
def test_all_finished_runs_of_a_store_are_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "run_local", in_process.run_local)
    monkeypatch.chdir(tmp_path)
    few = ("--model", "mlp:hidden=4", "--epochs", "1", "--train-samples", "60")
    for seed in ("0", "1"):
        command = ["train", "--optimizer", "sgd", "--seed", seed, "--out", "runs", *few]
        assert main(command) == 0
    paths = checkpoints_at([Path("runs")], Path("elsewhere"))
    assert len(paths) == 2
    assert checkpoints_at(paths[:1], Path("runs")) == paths[:1]
    ask = Asked(paths, BarrierSettings(points=3, samples=50, part="test"))
    found = barriers_between(ask).value
    assert found.names == ("sgd, seed 0", "sgd, seed 1")
    assert found.details["terms"] == 50
    Path("empty").mkdir()
    with pytest.raises(CheckpointError, match="empty holds no checkpoint of steppe"):
        checkpoints_at([Path("empty")], Path("runs"))
    # Another number of samples to train on: other samples are measured.
    more = (*few[:-1], "55")
    assert main(["train", "--optimizer", "sgd", "--out", "more", *more]) == 0
    both = [*paths, *checkpoints_at([Path("more")], Path("runs"))]
    with pytest.raises(DataError, match="are of other data or samples"):
        barriers_between(Asked(both, BarrierSettings(points=3, samples=50)))


def test_networks_that_do_not_go_together_are_refused(theirs):
    with pytest.raises(SettingError, match="two or more networks"):
        barriers_between(asked("a.pt"))
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        barriers_between(asked("a.pt", "none.pt"))


@pytest.mark.slow
def test_a_threshold_says_who_shares_a_basin(theirs, monkeypatch, capsys):
    values = {("a", "b"): 0.1, ("a", "c"): 2.0, ("b", "c"): 3.0}
    pairs = {pair: steppe.Estimate(value=value) for pair, value in values.items()}
    made = steppe.Barriers(names=("a", "b", "c"), paths={"straight": pairs})
    monkeypatch.setattr(
        "steppe_lab.analysis.barriers.barriers_between", lambda _: Noted(made, ())
    )
    ends = "--model barred.nets:build --data barred.data:load --no-matched"
    command = f"landscape barriers a.pt b.pt c.pt {ends} --out b.png".split()
    assert main([*command, "--threshold", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "Basins by barriers up to 0.5, straight: a, b; c." in said
    assert main([*command, "--threshold", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["basins"] == {"straight": [["a", "b", "c"]]}
    assert main([*command, "--threshold=-1"]) == 2


def test_matched_barriers_may_be_left_out(theirs):
    found = barriers_between(asked("a.pt", "b.pt", settings={"no_matched": True}))
    assert list(found.value.paths) == ["straight"]
