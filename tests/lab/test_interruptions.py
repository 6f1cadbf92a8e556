"""Whatever ends a worker or spoils a lease, finished work survives."""

import contextlib
import errno
import json
import os
import sys

import pytest

import in_process
from steppe.errors import StoreError, UsageError
from steppe_lab.cli import main
from steppe_lab.execution.local import run_local
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.store.store import Store
from steppe_lab.studies import comparison as compare
from steppe_lab.studies.comparison import ComparisonStudy

TINY = ["--train-samples", "40", "--epochs", "1", "--seeds", "1"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def run(store):
    return store.add({"number": 0})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def lease_of(store, run, age=0.0, **holder):
    """The lease of another process, with what is given changed."""
    lease = store.claim(run)
    record = json.loads(lease.path.read_text())
    lease.path.write_text(json.dumps({**record, "token": "other", **holder}))
    beat = lease.path.stat().st_mtime - age
    os.utime(lease.path, (beat, beat))
    return lease.path


@pytest.mark.parametrize("pid", [2**40, 2**63, 10**30, 0, -1, -(2**40)])
def test_a_lease_of_no_possible_process_is_taken_at_once(store, run, pid):
    lease_of(store, run, pid=pid, started=None)
    assert store.status(run) == "waiting"
    assert store.claim(run).held()


@pytest.mark.parametrize("ahead", [61.0, 1e4, 1e9])
def test_a_heartbeat_in_the_future_is_of_a_clock_that_was_set_back(store, run, ahead):
    lease_of(store, run, age=-ahead, host="elsewhere")
    assert store.status(run) == "waiting"
    assert store.claim(run).held()


def test_a_heartbeat_a_little_ahead_is_of_somebody_who_works(store, run):
    lease_of(store, run, age=-50.0, host="elsewhere")
    assert store.status(run) == "running"
    assert store.claim(run) is None


TEXTS = [
    *(b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"[" * 100_000, b"9" * 5000),
    *(b'{"host": {}, "pid": []}', b'{"token": [1], "started": {}}'),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_lease_that_says_nothing_counts_by_its_age(store, run, text):
    path = lease_of(store, run)
    path.write_bytes(text)
    assert store.status(run) == "running"
    assert store.claim(run) is None
    os.utime(path, (0, 0))
    assert store.claim(run).held()
    assert names(store.folder(run)) == ["config.json", "lease.json"]


@pytest.mark.parametrize("holder", [{"pid": True}, {"pid": 1.5}, {"pid": "1"}])
def test_a_lease_with_a_pid_of_another_kind_counts_by_its_age(store, run, holder):
    path = lease_of(store, run, **holder)
    assert store.claim(run) is None
    os.utime(path, (0, 0))
    assert store.claim(run).held()


def test_a_folder_in_place_of_a_lease_is_cleared_away(store, run):
    path = store.folder(run) / "lease.json"
    (path / "more").mkdir(parents=True)
    assert store.claim(run) is None
    os.utime(path, (0, 0))
    assert store.claim(run).held()
    assert names(store.folder(run)) == ["config.json", "lease.json"]


def test_a_folder_that_looks_like_a_crumb_stops_nobody(store, run):
    (store.folder(run) / ".x.tmp").mkdir()
    assert store.claim(run).held()


def test_a_lease_is_written_whole_where_the_system_takes_pieces(
    store, run, monkeypatch
):
    write = os.write
    monkeypatch.setattr(os, "write", lambda where, data: write(where, data[:5]))
    assert store.claim(run).held()


def test_what_work_raises_to_end_the_program_is_a_failure_of_its_run_alone(store):
    ids = [store.add({"number": number}) for number in range(5)]
    outcome = run_local(store, ids, "executor_jobs:end")
    assert [outcome.failed[run].reason for run in ids] == [
        *("SystemExit: 0", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "Odd"),
    ]
    assert [outcome.failed[run].attempts for run in ids] == [1] * 5


def test_work_that_leaves_without_a_word_is_a_death_and_no_success(store):
    run = store.add({"how": "leave", "deaths": 9})
    outcome = run_local(store, [run], "executor_jobs:die_by_config")
    reason = "the worker process died (exit code 0)"
    assert outcome.failed[run].reason == reason


DYING = """
import os, signal, uuid
from pathlib import Path
births = Path(__file__).with_name("births")
births.mkdir(exist_ok=True)
(births / uuid.uuid4().hex).touch()
if len(list(births.iterdir())) <= {deaths}:
    os.kill(os.getpid(), signal.SIGKILL)
def work(config, folder, report):
    return {{}}
"""


def test_a_worker_killed_at_birth_is_replaced(store, run, tmp_path, monkeypatch):
    (tmp_path / "dying_once.py").write_text(DYING.format(deaths=1))
    monkeypatch.syspath_prepend(tmp_path)
    assert run_local(store, [run], "dying_once:work").finished == (run,)


def test_workers_killed_at_birth_again_and_again_are_one_true_sentence(
    store, run, tmp_path, monkeypatch
):
    (tmp_path / "dying_always.py").write_text(DYING.format(deaths=99))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UsageError, match=r"\(signal 9\): something kills them"
    ) as caught:
        run_local(store, [run], "dying_always:work")
    assert "__main__" not in str(caught.value)
    assert len(names(tmp_path / "births")) == 3


ENDING = """
import sys
from steppe_lab import datasets
from torch import nn
class Net(nn.Linear):
    def forward(self, x):
        sys.exit(0)
def in_forward(in_shape, classes):
    return Net(64, classes)
def in_build(in_shape, classes):
    sys.exit(0)
def data(*, data_dir):
    sys.exit(0)
def optimizer(base, *, model, lr: float = 0.1):
    raise GeneratorExit
def exits(base, *, model, lr: float = 0.1):
    sys.exit(3)
class Measure:
    def __init__(self):
        sys.exit()
"""


@pytest.mark.parametrize(
    "options",
    [
        ["sgd", "--model", "ending:in_build"],
        ["sgd", "--model", "ending:in_forward"],
        ["sgd", "--data", "ending:data"],
        ["ending:optimizer"],
        ["ending:exits"],
        ["sgd", "--measures", "ending:Measure"],
    ],
)
def test_code_that_ends_the_program_is_a_mistake_and_no_success(
    options, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ending.py").write_text(ENDING)
    try:
        assert main(["compare", *options, *TINY]) == 2
    finally:
        sys.modules.pop("ending", None)
    err = capsys.readouterr().err
    assert "SystemExit" in err or "GeneratorExit" in err
    assert "Traceback" not in err


SETTINGS = CompareSettings(
    optimizers=("sgd",),
    model="small_cnn:width=2",
    train_samples=20,
    epochs=1,
    seeds=1,
    line_points=3,
    measures=("lpf:samples=2",),
)


def studied(root, monkeypatch):
    """Train and analyse one network in this process."""
    monkeypatch.setattr(compare, "run_local", in_process.run_local)
    return ComparisonStudy(SETTINGS, Store(root)).run()


SLOW = [pytest.param(call, marks=pytest.mark.slow) for call in ("fsync", "replace")]


@pytest.mark.slow
@pytest.mark.parametrize("call", ["write", *SLOW])
def test_a_disk_that_is_full_at_any_moment_loses_nothing(call, tmp_path, monkeypatch):
    real, calls, moments = getattr(os, call), [], []

    def full(*given):
        calls.append(given)
        if len(calls) in moments:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*given)

    monkeypatch.setattr(os, call, full)
    whole = studied(tmp_path / "whole", monkeypatch)
    assert len(calls) > 8
    for moment in range(1, len(calls) + 1):
        calls.clear()
        moments[:] = [moment]
        # Of a folder that cannot be synced nothing is said: its files are.
        with contextlib.suppress(StoreError):
            studied(tmp_path / f"{moment}", monkeypatch)
        moments.clear()
        assert studied(tmp_path / f"{moment}", monkeypatch) == whole
    assert not list(tmp_path.rglob("*.tmp"))
