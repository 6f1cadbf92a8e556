"""`steppe measure`: groups, several checkpoints, starts, and finished measurements."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

import in_process
import steppe
from own_files import package, saved
from steppe.errors import SettingError
from steppe.measures import MEASURES, AbstractMeasure
from steppe.measures.needs.weights.references import OtherNetwork, StartWeights
from steppe_lab.analysis import trained
from steppe_lab.cli import main
from steppe_lab.runs.measure_groups import STUDIES, Asked, ungrouped
from steppe_lab.store import journal

NETS = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
"""
DATA = """
import torch

def load():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()
"""
MINE = """
import dataclasses
import steppe

@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(steppe.measures.AbstractMeasure):
    q: float = 0.5

    def needs(self):
        return []

    def estimate(self, measurement):
        return steppe.Estimate(value=self.q)
"""
OWN = ("--model", "three.nets:build", "--data", "three.data:load")
FEW = ("--groups", "3", "--repeats", "2")


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "three", nets=NETS, data=DATA) as folder:
        for seed, name in enumerate(("a.pt", "b.pt", "c.pt")):
            saved(name, seed=seed, nets="three.nets")
        yield folder


@pytest.fixture
def far(monkeypatch):
    """Measures of the distance to the start, and to a second network."""

    def added(need, name):
        def estimate(self, measurement):
            there = measurement.of(need())
            if isinstance(there, dict):
                own = dict(measurement.objective.model.named_parameters())
                there = [there[each] for each in own]
            pairs = zip(measurement.objective.params, there, strict=True)
            value = sum(float((p - q).detach().square().sum()) for p, q in pairs) ** 0.5
            return steppe.Estimate(value=value)

        body = {"needs": lambda self: [need()], "estimate": estimate, "__doc__": "Far."}
        made = type(name, (AbstractMeasure,), {**body, "__module__": __name__})
        entries = dict(MEASURES._entries)
        MEASURES.add(name, source="none, 2000", needs=(need.kind,))(made)
        entries[name] = MEASURES._entries[name]
        return entries[name]

    kept = dict(MEASURES._entries)
    yield [added(StartWeights, "from_start"), added(OtherNetwork, "to_other")]
    MEASURES._entries.clear()
    MEASURES._entries.update(kept)


def printed(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_several_are_compared_with_the_first_and_written_as_rows(theirs, capsys):
    words = ["measure", "a.pt", "loss", "lpf:samples=3", *OWN, *FEW]
    words += ["--and", "b.pt", "c.pt"]
    assert main([*words, "--out", "all.csv"]) == 0
    table = capsys.readouterr().out
    assert "minus a.pt" in table
    record = printed(capsys, *words)
    assert list(record["checkpoints"]) == ["a.pt", "b.pt", "c.pt"]
    assert list(record["comparisons"]) == ["b.pt", "c.pt"]
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [(row["checkpoint"], row["measure"]) for row in rows] == [
        (name, measure)
        for name in ("a.pt", "b.pt", "c.pt")
        for measure in ("loss", "lpf")
    ]
    policies = ("loss", "mode", "part", "augmentation", "terms", "dtype", "seed")
    said = ["cross_entropy", "eval", "train", "none", "40", "float32", "0"]
    assert [rows[1][name] for name in policies] == said
    assert (rows[1]["scale"], rows[1]["forwards"]) == ("filter", "8.0")
    assert rows[1]["settings"].startswith("sigma=0.01,samples=3")
    assert rows[0]["difference"] == ""
    of_b = record["comparisons"]["b.pt"]["measures"]["loss"]
    assert float(rows[2]["difference"]) == pytest.approx(-of_b["difference"])
    assert float(rows[2]["difference_low"]) == pytest.approx(-of_b["high"])


def test_measures_without_data_may_come_first(theirs, capsys):
    words = ["measure", "a.pt", "parameter_count", "loss", *OWN]
    assert main(words) == 0
    assert "Over 40 loss terms" in capsys.readouterr().out
    assert main(["measure", "a.pt", "parameter_count", *OWN]) == 0
    assert "loss terms" not in capsys.readouterr().out


def test_a_measure_of_the_user_has_its_whole_name_in_the_rows(theirs, capsys):
    Path("three/mine.py").write_text(MINE)
    words = ["measure", "a.pt", "three.mine:Shift:q=0.9", *OWN, "--out", "a.csv"]
    assert main(words) == 0
    (row,) = csv.DictReader(Path("a.csv").read_text().splitlines())
    assert (row["measure"], row["settings"]) == ("three.mine:Shift", "q=0.9")


def test_the_same_command_goes_on_where_it_was_stopped(theirs, capsys, monkeypatch):
    words = ["measure", "a.pt", "loss", "trace", "lpf:samples=3", *OWN]
    estimate = MEASURES["trace"].make.estimate

    def stopped(self, measurement):
        raise KeyboardInterrupt

    monkeypatch.setattr(MEASURES["trace"].make, "estimate", stopped)
    assert main([*words]) == 130
    assert "the same command goes on there" in capsys.readouterr().err
    (path,) = Path("steppe-runs/measures").iterdir()
    assert len(path.read_text().splitlines()) == 1
    path.write_bytes(path.read_bytes() + b'{"asked": "cut o')
    monkeypatch.setattr(MEASURES["trace"].make, "estimate", estimate)
    first = printed(capsys, *words)
    assert len(list(journal.records(path))) == 3

    def never(self, measurement):
        raise AssertionError

    for name in ("loss", "trace", "lpf"):
        monkeypatch.setattr(MEASURES[name].make, "estimate", never)
    assert main([*words, "--json"]) == 0
    done = capsys.readouterr()
    assert json.loads(done.out) == first
    assert "3 measurements were finished before" in done.err
    with pytest.raises(AssertionError):  # another seed is another measurement
        main([*words, "--seed", "1"])


def test_measurements_that_cannot_be_kept_are_made_all_the_same(theirs, capsys):
    Path("steppe-runs").mkdir()
    Path("steppe-runs/measures").write_text("a file")
    assert main(["measure", "a.pt", "loss", *OWN]) == 0
    assert "finished measurements are not kept" in capsys.readouterr().err


def test_measurements_of_data_without_a_digest_are_not_kept(
    theirs, capsys, monkeypatch
):
    monkeypatch.setattr(steppe.Objective, "digest", "unknown-1234")
    assert main(["measure", "a.pt", "loss", *OWN]) == 0
    assert "not kept: batches of other things" in capsys.readouterr().err
    assert not Path("steppe-runs/measures").exists()


def test_a_start_and_a_second_network_are_those_of_files(theirs, far, capsys):
    words = ["measure", "a.pt", "from_start", "to_other", *OWN]
    record = printed(capsys, *words, "--start", "b.pt", "--other", "c.pt")
    states = [torch.load(name) for name in ("a.pt", "b.pt", "c.pt")]
    for name, state in (("from_start", states[1]), ("to_other", states[2])):
        squares = [(states[0][n] - state[n]).square().sum() for n in state]
        assert record[name]["value"] == pytest.approx(float(sum(squares)) ** 0.5)
    assert record["from_start"]["policies"]["start"] == "b.pt"
    assert record["to_other"]["policies"]["other"] == "c.pt"
    other = printed(capsys, *words, "--start", "c.pt", "--other", "c.pt")
    assert other["from_start"]["value"] != record["from_start"]["value"]
    assert other["to_other"] == record["to_other"]


def test_the_start_of_a_run_is_known(tmp_path, monkeypatch, far, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "run_local", in_process.run_local)
    small = ["--model", "mlp:hidden=4", "--epochs", "1", "--train-samples", "64"]
    values = []
    for more in ((), ("--checkpoint-every", "1")):
        done = printed(capsys, "train", "--optimizer", "sgd", *small, *more)
        words = ["measure", done["checkpoint"], "from_start"]
        values.append(printed(capsys, *words)["from_start"])
    assert values[0]["value"] == values[1]["value"] > 0
    assert values[0]["policies"]["start"] == "made again from the recipe"
    assert values[1]["policies"]["start"].endswith("initial.safetensors")


def test_a_study_is_a_group_too(capsys):
    (name,) = STUDIES
    measures = STUDIES[name]
    assert ungrouped([name], []) == Asked(measures)
    assert len(set(measures)) == 12
    assert set(measures) <= set(MEASURES.names())
    some = ungrouped(["loss", name, "lpf:samples=3"], []).measures
    assert sorted(some) == sorted({"loss", "lpf:samples=3", *measures} - {"lpf"})
    assert main(["list", "measures"]) == 0
    assert name in capsys.readouterr().out


@pytest.mark.usefixtures("far")
def test_groups_stand_for_measures_and_leave_out_what_lacks_its_needs():
    asked = ungrouped(["all"], ["start"])
    assert {"from_start", "loss", "trace", "lpf"} <= set(asked.measures)
    assert "to_other" not in asked.measures
    (sentence,) = asked.left_out
    assert sentence.endswith("left out: without a second network (--other CHECKPOINT)")
    assert "to_other" in sentence
    assert "from_start" not in ungrouped(["all"], []).measures
    spectral = ungrouped(["spectral", "trace:rtol=0.2"], []).measures
    assert "trace:rtol=0.2" in spectral
    assert "trace" not in spectral
    assert "loss" not in spectral
    assert ungrouped(["trace", "to_other"], []).measures == ("trace", "to_other")


def test_a_group_leaves_out_what_is_dear_unless_it_is_named():
    asked = ungrouped(["all"], ["start", "other network"], 2000)
    assert "llc" not in asked.measures
    assert "trace" in asked.measures
    (sentence,) = asked.left_out
    assert sentence.startswith("llc left out: it costs about 6,144 forward passes")
    named = ungrouped(["all", "llc:chains=2"], ["start", "other network"], 2000)
    assert "llc:chains=2" in named.measures
    assert not named.left_out
    with pytest.raises(SettingError, match=r"name them \(llc\), or give a larger"):
        ungrouped(["posterior"], [], 2000)


def test_a_file_of_another_form_is_refused_before_any_work(theirs, capsys, monkeypatch):
    words = ["measure", "a.pt", "loss", *OWN]
    assert main([*words, "--out", "a.xlsx"]) == 2
    assert "must end in .json, .csv or .parquet" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    from steppe_lab.reports.measures.files import check_file

    with pytest.raises(SettingError, match=r"needs pyarrow.*\[parquet\]"):
        check_file(Path("a.parquet"))


def test_a_parquet_file_has_the_rows(theirs, monkeypatch):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    words = ["measure", "a.pt", "loss", "trace", *OWN]
    assert main([*words, "--out", "a.parquet"]) == 0
    rows = parquet.read_table("a.parquet").to_pylist()
    assert [row["measure"] for row in rows] == ["loss", "trace"]


def test_a_damaged_line_is_measured_again(theirs, capsys):
    words = ["measure", "a.pt", "loss", "trace", *OWN]
    first = printed(capsys, *words)
    (path,) = Path("steppe-runs/measures").iterdir()
    lines = path.read_text().splitlines()
    lines[0] = lines[0].replace('"stderr": 0.', '"stderr": 1.')
    path.write_text("\n".join(lines))
    assert len(list(journal.records(path))) == 1
    again = printed(capsys, *words)
    assert again["loss"]["stderr"] == first["loss"]["stderr"]
    assert len(list(journal.records(path))) == 2
