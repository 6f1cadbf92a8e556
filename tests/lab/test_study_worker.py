"""Many processes work on one study: each run is done once, and none waits."""

import json
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml

from steppe_lab.cli import main
from steppe_lab.execution.abstract import Outcome
from steppe_lab.runs.training import CHECKPOINT, reopen_if_damaged
from steppe_lab.store.store import Store
from steppe_lab.studies import sharing
from steppe_lab.studies.expansion import plan_of_study
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.status import status_of
from steppe_lab.studies.study import Study
from steppe_lab.work import work

FILE = {
    "name": "tiny",
    "base": {
        "data": "digits",
        "train_samples": 40,
        "test_fraction": 0.1,
        "model": "mlp:hidden=4,depth=1",
        "optimizer": "sgd",
        "epochs": 1,
        "batch_size": 8,
        "checkpoint_every": 0,
    },
    "grid": {"base.lr": [0.1, 0.01]},
    "seeds": 2,
    "measures": ["gradient_norm"],
    "analysis": {"samples": 20},
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(FILE))
    return path


def study_in(store, **more):
    return Study(plan_of_study(StudySettings.model_validate({**FILE, **more})), store)


def in_this_process(asked):
    """An executor that does what nobody holds, and notes how it was called."""

    def run_local(store, runs, name, *, progress, then, **options):
        asked.append(options)
        queue = list(runs)
        while queue:
            run = queue.pop(0)
            lease = store.claim(run)
            if lease is None:
                if store.is_finished(run):
                    progress(sharing.Progress(1.0, run=run, state="finished"))
                    queue += then(run, True)
                continue
            with lease:
                progress(sharing.Progress(run=run))
                store.finish(run, work(store.config(run), store.folder(run), print))
            progress(sharing.Progress(1.0, run=run, state="finished"))
            queue += then(run, True)
        return Outcome((), {})

    return run_local


def test_a_worker_does_what_is_left_and_counts_it_by_kind(tmp_path, monkeypatch):
    store, asked = Store(tmp_path), []
    monkeypatch.setattr(sharing, "run_local", in_this_process(asked))
    study = study_in(store)
    first = next(iter(study.plan))
    store.add_all([trial.config for trial in study.plan.values()])
    lease = store.claim(first)
    share = sharing.work_along(study, seconds=9.0)
    assert share.finished == {"training": 3, "analysis": 3}
    assert (
        share.sentence() == "this worker: 6 finished (3 training, 3 analysis), 0 failed"
    )
    assert {"patient": False, "retry": False, "seconds": 9.0}.items() <= asked[
        0
    ].items()
    lease.release()
    share = sharing.work_along(study)
    assert share.finished == {"training": 1, "analysis": 1}
    assert status_of(study).left == 0
    assert not sharing.work_along(study).finished


def test_workers_begin_anywhere_and_ask_for_each_run_once():
    runs = list("abcdef")
    orders = {"".join(sharing._turned(runs)) for _ in range(200)}
    assert orders == {"abcdef"[at:] + "abcdef"[:at] for at in range(6)}
    assert sharing._turned([]) == []


def test_a_result_that_another_process_stores_meanwhile_stays(tmp_path):
    class Beside(Store):
        def is_finished(self, run):
            before = super().is_finished(run)
            self.finish(run, {"loss": 0.5})
            return before

    store = Beside(tmp_path)
    run = store.add({"seed": 1})
    reopen_if_damaged(store, run)
    assert store.result(run) == {"loss": 0.5}
    reopen_if_damaged(Store(tmp_path), run)  # it has no network
    assert store.status(run) == "waiting"


@pytest.mark.slow
def test_the_command_says_what_it_did_and_how_far_the_study_is(file, tmp_path, capsys):
    command = ["study", "worker", str(file), "--store", str(tmp_path / "runs")]
    assert main([*command, "--hours", "1", "--pack", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["did"]["finished"] == {"training": 4, "analysis": 4}
    assert (record["study"], record["left"]) == ("tiny", 0)
    # The store remembers the study: a name is not needed, nor the file.
    file.unlink()
    assert main(["study", "worker", "--store", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "this worker: 0 finished, 0 failed",
        "trials: 4, of them 4 finished",
    ]


def test_a_folder_without_a_study_is_one_sentence(tmp_path, capsys):
    assert main(["study", "worker", "--store", str(tmp_path)]) == 2
    assert "holds no study" in capsys.readouterr().err


def start(file, root):
    command = ["study", "worker", str(file), "--store", str(root), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "steppe_lab.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_workers_beside_each_other_do_every_run_once_though_one_is_killed(
    file, tmp_path
):
    more = {"seeds": 5}
    file.write_text(yaml.safe_dump({**FILE, **more}))
    store = Store(tmp_path / "runs")
    study = study_in(store, **more)
    killed, *others = [start(file, store.root) for _ in range(3)]
    while status_of(study).count("finished") < 3:
        assert killed.poll() is None
        time.sleep(0.05)
    assert status_of(study).left
    killed.kill()
    killed.communicate()
    did = Counter()
    for worker in others:
        out, _ = worker.communicate(timeout=200)
        assert worker.returncode == 0
        did.update(json.loads(out)["did"]["finished"])
    # What is left is what the killed one had in work when others had come to an end.
    assert main(["study", "worker", "--store", str(store.root)]) == 0
    assert status_of(study).left == 0
    assert 0 < sum(did.values()) <= 20
    alone = Store(tmp_path / "alone")
    assert main(["study", "worker", str(file), "--store", str(alone.root)]) == 0
    for run in study.plan:
        both = [each.folder(run) / CHECKPOINT for each in (store, alone)]
        assert both[0].read_bytes() == both[1].read_bytes()
