"""The executor of a Ray cluster stores what the local one stores, whoever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest
import yaml

import executor_jobs
from steppe.errors import SettingError, UsageError
from steppe.files.leases import Lease
from steppe_lab.cli import main
from steppe_lab.execution import ray as executor
from steppe_lab.execution.abstract import Bundles
from steppe_lab.execution.local import run_local
from steppe_lab.execution.ray import run_ray
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def add(store, count, **more):
    return [store.add({"number": number, **more}) for number in range(count)]


def texts(store):
    return {
        run: (store.folder(run) / "result.json").read_bytes() for run in store.ids()
    }


def calls(store, run):
    return len(list(store.folder(run).glob("call-*")))


def leftovers(store):
    names = ("lease.json", ".*.tmp", ".*.stolen")
    crumbs = [path for name in names for path in store.root.glob(f"runs/*/{name}")]
    return crumbs + list(store.root.glob(".shared.*"))


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_ray_one_sentence_says_how_to_install_it(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs the package ray .*\[ray\]"):
        run_ray(store, [], "executor_jobs:halve")


@pytest.mark.parametrize(
    "setting",
    [{"workers": 0}, {"cpus": -1.0}, {"gpus": float("nan")}, {"seconds": 0.0}],
)
def test_numbers_out_of_their_range_are_refused_before_ray_starts(store, setting):
    with pytest.raises(SettingError, match=f"{next(iter(setting))} must be"):
        run_ray(store, [], "executor_jobs:halve", **setting)


def test_a_node_without_the_folder_of_the_store_is_refused(store, tmp_path):
    with executor._token(store) as token:
        assert executor._unshared(token) is None
        other = tmp_path / "other" / token.path.name
        other.parent.mkdir()
        other.write_text('{"token": "of another store"}')
        for path in (tmp_path / "missing" / token.path.name, other):
            sentence = str(executor._unshared(Lease(path, token.token)))
            assert f"does not see the store {path.parent}; put it" in sentence
            assert "that all nodes share by the same path." in sentence
    assert leftovers(store) == []


def test_the_file_of_an_executor_that_was_killed_is_taken_away_by_the_next(store):
    with executor._token(store) as token:
        with executor._token(store):
            assert token.held()
        holder = json.loads(token.path.read_text())
        token.path.write_text(json.dumps({**holder, "pid": 2**40}))
        with executor._token(store):
            assert not token.held()
    assert leftovers(store) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--gpus", "1"], "--gpus are for a Ray cluster; add --executor ray."),
        (["--address", "a:1"], "--gpus are for a Ray cluster; add --executor ray."),
        (["--executor", "ray", "--devices", "cpu"], "on a Ray cluster say --gpus."),
    ],
)
def test_options_of_the_other_executor_are_refused(
    options, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.setattr("steppe_lab.cli.verbs.study_run.start_server", lambda _: None)
    assert main(["study", "run", "study.yaml", *options]) == 2
    assert sentence in capsys.readouterr().err


STUDY = {
    "name": "tiny",
    "base": {
        "data": "digits",
        "train_samples": 40,
        "model": "mlp:hidden=4,depth=1",
        "optimizer": "sgd",
        "epochs": 1,
        "batch_size": 8,
    },
    "grid": {"base.lr": [0.1, 0.01]},
    "seeds": 1,
    "measures": ["gradient_norm"],
    "analysis": {"samples": 20},
}


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, address="local")
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestOnTwoWorkers:
    def test_results_are_those_of_local_workers(self, tmp_path):
        near, far = Store(tmp_path / "near"), Store(tmp_path / "far")
        ids = add(near, 6)
        assert add(far, 6) == ids
        run_local(near, ids, "executor_jobs:halve")
        events = []
        outcome = run_ray(far, ids, "executor_jobs:halve", progress=events.append)
        assert outcome.finished == tuple(ids)
        assert texts(far) == texts(near)
        assert [calls(far, run) for run in ids] == [1] * 6
        assert {event.text for event in events} == {"", "half done"}
        assert leftovers(far) == []

    def test_bundles_and_followers_are_done_and_failures_stored(self, store):
        ids = [store.add({"number": n, "how": "raise"[: 5 * (n == 1)]}) for n in (0, 1)]
        later = store.add({"number": 7})
        outcome = run_ray(
            store,
            ids,
            "executor_jobs:kill_or_halve",
            workers=1,
            bundles=Bundles(lambda runs: [tuple(runs)], "executor_jobs:together"),
            then=lambda run, finished: [later] if finished else [],
        )
        assert outcome.finished == (ids[0], later)
        assert outcome.failed[ids[1]].reason == "ValueError: this one alone"
        assert leftovers(store) == []

    def test_a_run_whose_worker_process_dies_is_tried_again(self, store):
        once = store.add({"how": "kill", "deaths": 1})
        always = store.add({"how": "exit", "deaths": 9})
        outcome = run_ray(store, [once, always], "executor_jobs:die_by_config")
        assert outcome.finished == (once,)
        assert outcome.failed[always].attempts == 2
        reason = "the worker process died (exit code 3)"
        assert outcome.failed[always].reason == reason
        assert leftovers(store) == []

    def test_a_run_whose_actor_is_killed_is_tried_again(self, store):
        ids = add(store, 4)
        outcome = run_ray(store, ids, "executor_jobs:kill_the_parent_once")
        assert outcome.finished == tuple(ids)
        assert [calls(store, run) for run in ids] == [1, 2, 1, 1]
        assert store.failure(ids[1]).died
        assert "Ray" in store.failure(ids[1]).reason
        assert leftovers(store) == []

    def test_a_store_that_the_workers_do_not_see_is_refused(self, store, monkeypatch):
        ids = add(store, 1)
        nowhere = Lease(store.root / "nowhere", "")
        monkeypatch.setattr(executor, "_token", lambda store: nullcontext(nowhere))
        with pytest.raises(UsageError, match=r"does not see the store .* same path\."):
            run_ray(store, ids, "executor_jobs:halve")
        assert store.status(ids[0]) == "waiting"

    def test_work_that_cannot_be_imported_is_refused(self, store):
        with pytest.raises(UsageError, match="importable module:function, got 'no:x'"):
            run_ray(store, add(store, 1), "no:x", workers=1)

    def test_more_than_a_node_has_is_refused(self, store):
        with pytest.raises(UsageError, match=r"no node .* 1 processors and 3 GPUs"):
            run_ray(store, add(store, 1), "executor_jobs:halve", gpus=3)

    def test_a_study_on_a_cluster_has_the_results_of_a_local_one(self, tmp_path):
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(STUDY))
        command = ["study", "run", str(file), "--workers", "2", "--out"]
        assert main([*command, str(tmp_path / "near")]) == 0
        assert main([*command, str(tmp_path / "far"), "--executor", "ray"]) == 0
        near, far = Store(tmp_path / "near"), Store(tmp_path / "far")
        assert near.ids() == far.ids()
        assert len(far.ids()) == 4
        for run in far.ids():
            results = [store.result(run) for store in (near, far)]
            for name in ("train_loss", "test_error", "estimates"):
                assert results[0].get(name) == results[1].get(name)
            networks = [store.folder(run) / CHECKPOINT for store in (near, far)]
            if networks[0].exists():
                assert networks[0].read_bytes() == networks[1].read_bytes()

    def test_after_the_limit_of_time_no_run_is_begun(self, store):
        ids = add(store, 1500)
        outcome = run_ray(store, ids, "executor_jobs:slow_halve", seconds=15.0)
        assert 0 < len(outcome.finished) < 1500
        assert leftovers(store) == []


def start(store, work):
    return subprocess.Popen(
        [sys.executable, executor_jobs.__file__, store.root, "ray", work],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_finished_and_frees_the_leases(store, number):
    pytest.importorskip("ray")
    ids = add(store, 2)
    driver = start(store, "executor_jobs:hang")
    until(lambda: [store.status(run) for run in ids] == ["finished", "running"])
    driver.send_signal(number)
    trace = driver.communicate(timeout=60)[1].decode()
    assert trace.strip().endswith(("KeyboardInterrupt", "Stopped"))
    assert [store.status(run) for run in ids] == ["finished", "waiting"]
    assert leftovers(store) == []


@pytest.mark.slow
def test_killing_the_driver_loses_nothing(tmp_path):
    pytest.importorskip("ray")
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    ids = add(whole, 60)
    assert add(cut, 60) == ids
    run_local(whole, ids, "executor_jobs:halve")
    driver = start(cut, "executor_jobs:slow_halve")
    until(lambda: sum(map(cut.is_finished, ids)) > 3)
    driver.kill()
    driver.communicate()
    finished = texts_of_finished(cut)
    outcome = run_local(cut, ids, "executor_jobs:slow_halve")
    assert outcome.finished == tuple(ids)
    assert texts(cut) == texts(whole)
    assert finished.items() <= texts(cut).items()
    # Those that were in work when all died are begun again, no other.
    assert sum(calls(cut, run) - 1 for run in ids) <= 2
    assert not list(cut.root.glob("runs/*/lease.json"))


def texts_of_finished(store):
    return {
        run: (store.folder(run) / "result.json").read_bytes()
        for run in store.ids()
        if store.is_finished(run)
    }
