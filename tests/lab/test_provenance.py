"""Where a training was done: recorded beside the result, shown in pages."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

from steppe_lab.progress import silent
from steppe_lab.reports.text.provenance import origin_sentences
from steppe_lab.runs import provenance
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.analysis import Analysis
from steppe_lab.runs.provenance import Origin, git_state, note_start, origins, record
from steppe_lab.runs.scoring import Scoring
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.runs.training import recipe_of, train_network
from steppe_lab.store.store import Store
from steppe_lab.work import work

ORIGIN = Origin(
    steppe="1.0",
    torch="2.0",
    commit="0123456789abcdef",
    changed=False,
    processor="Fast CPU",
    threads=1,
    device="cpu",
)


@pytest.fixture(autouse=True)
def _asked_anew():
    git_state.cache_clear()
    yield
    git_state.cache_clear()


def git(folder, *words):
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
    who |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        env={**os.environ, **who},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


def test_the_commit_and_changes_of_tracked_files_are_noted(tmp_path):
    git(tmp_path, "init", "-q")
    assert git_state(str(tmp_path)) is None  # there is no commit yet
    file = tmp_path / "code.py"
    file.write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "first")
    git_state.cache_clear()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new").write_text("untracked\n")
    expected = {"commit": git(tmp_path, "rev-parse", "HEAD"), "changed": False}
    assert git_state(str(tmp_path)) == expected
    assert git_state(str(tmp_path / "results")) == expected
    file.write_text("a = 2\n")
    git_state.cache_clear()
    assert git_state(str(tmp_path)) == {**expected, "changed": True}


@pytest.mark.parametrize("failure", [FileNotFoundError, PermissionError, "slow"])
def test_a_training_goes_on_without_git(failure, tmp_path, monkeypatch):
    def run(*given, **how):
        if failure == "slow":
            raise subprocess.TimeoutExpired("git", 5)
        raise failure

    monkeypatch.setattr(subprocess, "run", run)
    assert record("cpu")["git"] is None


def test_a_record_says_command_versions_and_machine(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["steppe", "train", "--seed", "3"])
    made = record("cpu")
    assert made["argv"] == ["steppe", "train", "--seed", "3"]
    assert made["folder"] == str(tmp_path)
    assert made["versions"]["torch"] == torch.__version__
    assert made["versions"]["python"] == platform.python_version()
    assert made["machine"]["threads"] == torch.get_num_threads()
    assert made["machine"]["device"] == "cpu"
    assert made["machine"]["processor"]
    assert json.loads(json.dumps(made)) == made


def test_every_start_is_noted_and_equal_origins_are_one(tmp_path):
    note_start(tmp_path, "cpu")
    note_start(tmp_path, "cpu")
    starts = json.loads((tmp_path / "provenance.json").read_text())["starts"]
    assert len(starts) == 2
    assert len(origins([tmp_path, tmp_path / "gone"])) == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"starts": 3}', '{"starts": [{}]}', '{"starts": [null]}']
)
def test_a_damaged_record_stops_nobody(text, tmp_path):
    (tmp_path / "provenance.json").write_text(text)
    assert origins([tmp_path]) == ()
    note_start(tmp_path, "cpu")
    assert len(origins([tmp_path])) == 1


def test_neither_id_nor_result_know_where_a_training_was_done(tmp_path, monkeypatch):
    settings = TrainSettings(model="mlp:hidden=4", train_samples=40, epochs=1)
    made, results = recipe_of(settings, "sgd", 0), []
    for place in ("here", "there"):
        store = Store(tmp_path / place)
        folder = store.folder(store.add(config_of(made)))
        monkeypatch.setattr(provenance, "_processor", lambda place=place: place)
        result = train_network(made, folder, lambda progress: None)
        names = ("config.json", "history.json", "model.safetensors")
        results.append(
            (folder.name, result, [(folder / n).read_bytes() for n in names])
        )
        assert origins([folder])[0].processor == place
    assert results[0] == results[1]


def test_analyses_and_scorings_are_noted_and_git_is_asked_once(tmp_path, monkeypatch):
    asked, run = [], subprocess.run

    def count(command, **how):
        asked.append(command[0])
        return run(command, **how)

    monkeypatch.setattr(subprocess, "run", count)
    store = Store(tmp_path)
    settings = TrainSettings(model="mlp:hidden=4", train_samples=40, epochs=1)
    recipe = recipe_of(settings, "sgd", 0)
    training = store.add(config_of(recipe))
    store.finish(training, train_network(recipe, store.folder(training), silent))
    for settings in (
        Analysis(training=training, measures=("path_norm",)),
        Scoring(training=training),
    ):
        follower = store.add(config_of(settings))
        work(store.config(follower), store.folder(follower), silent)
    starts = [
        json.loads((store.folder(run) / "provenance.json").read_text())["starts"]
        for run in store.ids()
    ]
    assert [len(each) for each in starts] == [1, 1, 1]
    assert len({str(each[0]["git"]) for each in starts}) == 1
    assert asked.count("git") <= 2


def test_a_page_names_processor_threads_and_commit():
    assert origin_sentences([ORIGIN]) == [
        "The networks were trained with steppe 1.0 and torch 2.0 on Fast CPU, 1 "
        "thread, in a folder at commit 0123456789ab."
    ]
    other = ORIGIN.model_copy(
        update={"device": "A GPU", "threads": 4, "changed": True, "steppe": "1.1"}
    )
    one, two = origin_sentences([ORIGIN, other])
    assert one.startswith("Some of it was trained with steppe 1.0")
    assert two.endswith(
        "on A GPU, in a folder at commit 0123456789ab, with changes to tracked files."
    )
    bare = ORIGIN.model_copy(update={"commit": None, "changed": None})
    assert origin_sentences([bare])[0].endswith("on Fast CPU, 1 thread.")
    assert origin_sentences([]) == []
