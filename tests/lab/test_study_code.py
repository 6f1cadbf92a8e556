"""Studies with code of the user: their results need none of it, other code is said."""

import json
import shutil
import sys

import pytest

from steppe.errors import SettingError, StoreError
from steppe_lab.cli import main
from steppe_lab.models import MODELS
from steppe_lab.store.store import Store
from steppe_lab.studies.stored import open_results, open_study

CODE = """
import torch
from torch import nn
from steppe_lab.datasets import Dataset, TensorSamples

def build(in_shape, outputs, *, width: int = 4):
    return nn.Sequential(nn.Linear(in_shape[0], width), nn.Linear(width, outputs))

def data(*, data_dir):
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    samples = TensorSamples(inputs, torch.arange(20) % 2)
    return Dataset(name="mine", train=samples, test=samples, classes=("a", "b"))

def place(in_shape, outputs, width=4):
    return nn.Linear(width, outputs)

def untyped(in_shape, outputs, *, width=4):
    return nn.Linear(width, outputs)
"""
FILE = """
name: own
base: {data: 'study_code_of_mine:data', model: 'study_code_of_mine:build', epochs: 1}
grid: {model.width: [4, 8]}
measures: [gradient_norm]
analysis: {samples: 10}
"""
TRUST = ("--trust", "study_code_of_mine:build", "study_code_of_mine:data")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with code, a study file and the finished study."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "study_code_of_mine.py").write_text(CODE)
    (folder / "own.yaml").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        _forgotten(patch, folder)
        words = ("own.yaml", "--workers", "1", *TRUST)
        assert main(["study", "run", *words]) == 0
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "copy")
    _forgotten(monkeypatch, tmp_path / "copy")
    return tmp_path / "copy"


def _forgotten(patch, folder):
    """A process that has imported no code of the user, in the folder of it."""
    patch.chdir(folder)
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, "study_code_of_mine", raising=False)
    for registry in _registries():
        patch.setattr(registry, "_code", {})


def _registries():
    from steppe_lab.training.recipe import CHOICES

    return CHOICES.values()


def steppe(capsys, *words):
    code = main(["study", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.slow
def test_results_are_read_without_the_code(folder, capsys):
    trusted = open_study(Store("steppe-runs"), trust=TRUST[1:])
    whole, runs = trusted.table(), list(trusted.plan)
    followers = [trusted.study.followers(run) for run in runs]
    (folder / "study_code_of_mine.py").unlink()
    stored = open_results(Store("steppe-runs"))
    assert list(stored.plan) == runs
    assert [stored.study.followers(run) for run in runs] == followers
    assert stored.table() == whole
    assert stored.table().columns["width"] == [4, 8]
    code, out, err = steppe(capsys, "status", "--json", "--store", "steppe-runs")
    assert code == 0, err
    record = json.loads(out)
    assert record["trials"]["finished"] == 2
    assert record["estimate"]["seconds"] == 0
    assert steppe(capsys, "export", "--out", "table.csv")[0] == 0
    assert steppe(capsys, "report", "--csv")[0] == 0
    # To go on, a study needs its code.
    with pytest.raises(StoreError, match="--trust"):
        open_study(Store("steppe-runs"))


def test_trials_of_an_older_store_need_trust_and_damaged_ones_are_said(folder):
    path = folder / "steppe-runs" / "studies" / "own.trials.json"
    path.write_text('{"version": 1, "trials": [{}], "columns": []}')
    with pytest.raises(StoreError, match="trials of a study"):
        open_results(Store("steppe-runs"))
    path.unlink()
    with pytest.raises(StoreError, match="--trust study_code_of_mine:"):
        open_results(Store("steppe-runs"))


def test_finished_runs_of_other_source_are_said_before_any_work(folder, capsys):
    (folder / "study_code_of_mine.py").write_text(CODE + "\n# a remark\n")
    for more in ((), ("--dry-run",)):
        code, out, err = steppe(capsys, "run", "own.yaml", *TRUST, *more)
        assert (code, out) == (2, "")
        assert "4 finished runs belong to other source of study_code_of_mine:" in err
        assert "give --changed-code" in err
    words = ("run", "own.yaml", "--dry-run", "--changed-code", *TRUST)
    code, out, _ = steppe(capsys, *words)
    assert code == 0
    assert "4 left" in out
    # Runs that were begun with this code are gone on with, without a question.
    store = Store("steppe-runs")
    trials = open_study(store, trust=TRUST[1:]).plan.values()
    store.add_all([trial.config for trial in trials])
    assert steppe(capsys, "run", "own.yaml", "--dry-run", *TRUST)[0] == 0


def test_a_setting_that_is_not_keyword_only_is_named(folder):
    for name in ("place", "untyped"):
        with pytest.raises(
            SettingError, match=r"keyword-only.*write \*, width: int = 4"
        ):
            MODELS.parse(f"study_code_of_mine:{name}:width=8")


def test_a_level_twice_is_named(folder, capsys):
    (folder / "twice.yaml").write_text(FILE.replace("[4, 8]", "[4, 4, 8]"))
    code, _, err = steppe(capsys, "run", "twice.yaml", "--dry-run", *TRUST)
    assert code == 2
    assert "grid: model.width has 4 twice; leave one out" in err


def test_a_slip_in_the_name_of_a_stored_study_is_seen(folder, capsys):
    code, _, err = steppe(capsys, "run", "onw", "--dry-run")
    assert code == 2
    assert "unknown study 'onw': did you mean 'own'?" in err


def test_a_finished_study_is_one_line(folder, capsys):
    code, _, err = steppe(capsys, "run", "own.yaml", "--workers", "1", *TRUST)
    assert (code, err.count("\n")) == (0, 1)
    assert "all 4 runs had been finished before" in err
