"""Runs end up finished or failed, whoever dies in between, and only once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import executor_jobs
from steppe.errors import SettingError, StoreError, UsageError
from steppe_lab.execution.local import run_local
from steppe_lab.execution.worker import find_work
from steppe_lab.store.store import Failure, Store


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
    return [path for name in names for path in store.root.glob(f"runs/*/{name}")]


def until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def start(store, work, workers=2):
    command = [sys.executable, executor_jobs.__file__]
    arguments = [store.root, f"executor_jobs:{work}", str(workers)]
    return subprocess.Popen(
        [*command, *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell lets what it runs in the background ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def members(session):
    """Living processes that a parent started with `start`, and it itself."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(folder.name))
    return found


def kill_after(store, count, seconds):
    """Kill an executor when it has finished so many runs, and so many seconds more."""

    def finished():
        return sum(store.status(run) == "finished" for run in store.ids())

    target = finished() + count
    parent = start(store, "slow_halve")
    until(lambda: finished() >= target)
    time.sleep(seconds)
    parent.kill()
    parent.communicate()
    until(lambda: members(parent.pid) == [], 10)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    run_local(one, add(one, 6), "executor_jobs:halve")
    outcome = run_local(two, add(two, 6), "executor_jobs:halve", workers=2)
    assert outcome.failed == {}
    assert len(outcome.finished) == 6
    assert texts(one) == texts(two)
    assert leftovers(one) + leftovers(two) == []


def test_finished_runs_are_not_run_again_and_start_no_process(store, monkeypatch):
    ids = add(store, 2)
    for run in ids:
        store.finish(run, {})
    monkeypatch.setattr("steppe_lab.execution.local.start_worker", None)
    events = []
    outcome = run_local(store, ids, "executor_jobs:halve", progress=events.append)
    assert outcome.finished == tuple(ids)
    assert [(e.state, e.fraction, e.text) for e in events] == [
        ("finished", 1.0, "stored")
    ] * 2


def test_events_tell_of_a_run_from_start_to_end(store):
    (run,) = add(store, 1)
    events = []
    run_local(store, [run], "executor_jobs:halve", progress=events.append)
    assert {event.run for event in events} == {run}
    assert [(e.state, e.fraction, e.text) for e in events] == [
        ("running", 0.0, ""),
        ("running", 0.5, "half done"),
        ("finished", 1.0, ""),
    ]


def test_runs_start_in_the_order_given(store):
    order = add(store, 4)[::-1]
    events = []
    run_local(store, order, "executor_jobs:halve", progress=events.append)
    assert [e.run for e in events if e.state == "finished"] == order


def test_workers_are_born_with_their_number_of_threads(store, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (run,) = add(store, 1)
    run_local(store, [run], "executor_jobs:threads", threads=3)
    assert store.result(run)["threads"] == "3"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_workers_see_the_environment_as_it_is_when_they_start(store, monkeypatch):
    first, second = add(store, 2)
    for run, said in ((first, "one"), (second, "two")):
        monkeypatch.setenv("STEPPE_SAID", said)
        run_local(store, [run], "executor_jobs:surroundings")
        assert store.result(run)["said"] == said
        assert store.result(run)["safe_path"] is None
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


@pytest.mark.parametrize("threads", [1, 2])  # forked and spawned
def test_files_in_the_current_folder_hide_no_module_from_workers(
    store, tmp_path, threads
):
    (run,) = add(store, 1)
    around = tmp_path / "folder"
    around.mkdir()
    for name in ("multiprocessing", "socket", "selectors", "pickle", "json"):
        (around / f"{name}.py").write_text(f"open('{name} ran', 'w')\nraise OSError")
    command = [sys.executable, executor_jobs.__file__, store.root]
    arguments = ["executor_jobs:halve", "1", str(threads)]
    subprocess.run([*command, *arguments], cwd=around, check=True, timeout=60)
    assert store.status(run) == "finished"
    assert not list(around.glob("* ran"))


def test_workers_start_without_a_server_where_it_can_have_no_socket(store, tmp_path):
    (run,) = add(store, 1)
    far = tmp_path / ("x" * 100)
    far.mkdir()
    command = [sys.executable, executor_jobs.__file__, store.root]
    subprocess.run(
        [*command, "executor_jobs:halve", "1"],
        env={**os.environ, "TMPDIR": str(far)},
        check=True,
        timeout=60,
    )
    assert store.status(run) == "finished"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_workers_are_copies_of_one_thread_that_has_imported_torch(store):
    (run,) = add(store, 1)
    script = (
        "from steppe_lab.execution import fork_server, local\n"
        "from steppe_lab.runs import WORK\n"
        "from steppe_lab.store.store import Store\n"
        "if __name__ == '__main__':\n"
        "    fork_server.start_server(WORK)\n"
        f"    store = Store({str(store.root)!r})\n"
        "    fork_server.start_server = lambda work: None\n"
        "    local.run_local(store, store.ids(), 'executor_jobs:surroundings')\n"
    )
    path = store.root / "script.py"
    path.write_text(script)
    support = Path(executor_jobs.__file__).parent
    path_of_modules = filter(None, [str(support), os.environ.get("PYTHONPATH")])
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(path_of_modules)}
    subprocess.run([sys.executable, path], env=around, check=True, timeout=120)
    result = store.result(run)
    assert (result["torch"], result["threads_of_server"]) == (True, 1)


def test_later_runs_follow_when_all_others_have_begun(store):
    first, second, third, fourth = add(store, 4)
    asked, ended = [], []

    def then(run, finished):
        asked.append((run, finished))
        return {first: [third, first], third: [fourth]}.get(run, [])

    store.finish(first, {})
    outcome = run_local(
        store,
        [first, second],
        "executor_jobs:halve",
        progress=lambda e: ended.append(e.run) if e.state == "finished" else None,
        then=then,
    )
    assert outcome.finished == (first, second, third, fourth)
    assert ended == [first, second, third, fourth]
    assert asked == [(run, True) for run in ended]


def test_a_run_that_failed_is_followed_by_what_is_asked_for(store):
    bad, good = store.add({"number": 1}), store.add({"number": 5})
    outcome = run_local(
        store,
        [bad],
        "executor_jobs:complain",
        then=lambda run, finished: [] if finished else [good],
    )
    assert (outcome.finished, list(outcome.failed)) == ((good,), [bad])


def test_an_exception_is_stored_and_the_study_goes_on(store):
    ids = add(store, 5)
    outcome = run_local(store, ids, "executor_jobs:complain", workers=2)
    assert outcome.finished == (ids[0], ids[4])
    reasons = [outcome.failed[run].reason for run in ids[1:4]]
    assert reasons[:2] == ["ValueError: one is", "two is no data; give three."]
    assert "not JSON serializable" in reasons[2]
    trace = store.artefact(ids[1], "traceback.txt").read_text()
    assert 'raise ValueError("one is\\nbad")' in trace
    assert [calls(store, run) for run in ids] == [1] * 5


def test_what_raised_is_tried_again_by_every_later_call(store):
    run = store.add({"number": 1})
    for tries in (1, 2, 3):
        outcome = run_local(store, [run], "executor_jobs:complain")
        assert outcome.failed == {run: Failure("ValueError: one is", tries)}
        assert calls(store, run) == tries


def test_a_failure_that_follows_from_the_settings_is_not_tried_again(store):
    run = store.add({"number": 1})
    for _ in range(2):
        outcome = run_local(store, [run], "executor_jobs:break_down")
        assert outcome.failed[run].final
        assert calls(store, run) == 1


def test_deaths_are_counted_anew_in_every_call(store):
    run = store.add({"how": "kill", "deaths": 3})
    waits = []
    for tries in (2, 4):
        outcome = run_local(
            store, [run], "executor_jobs:die_by_config", progress=waits.append
        )
        assert calls(store, run) == tries
    assert outcome.finished == (run,)
    texts = [event.text for event in waits if event.state == "waiting"]
    again = "the worker process died (signal 9); attempt 2 of 2 follows"
    assert texts == [again, again]


def test_what_the_work_prints_is_no_output_of_the_program(store, capfd):
    run_local(store, add(store, 1), "executor_jobs:chat")
    said = capfd.readouterr()
    assert said.out == ""
    assert "hello from code of the user" in said.err
    assert "and from below Python" in said.err


def test_a_run_whose_worker_dies_is_tried_again_until_attempts_are_over(store):
    deaths = {"exit": 1, "kill": 1, "always": 9, "never": 0}
    runs = {how: store.add({"how": how, "deaths": n}) for how, n in deaths.items()}
    work = "executor_jobs:die_by_config"
    outcome = run_local(store, runs.values(), work, workers=2)
    assert outcome.finished == (runs["exit"], runs["kill"], runs["never"])
    assert {how: calls(store, run) for how, run in runs.items()} == {
        "exit": 2,
        "kill": 2,
        "always": 2,
        "never": 1,
    }
    reasons = {how: store.failure(run).reason for how, run in list(runs.items())[:3]}
    assert reasons == {
        "exit": "the worker process died (exit code 3)",
        "kill": "the worker process died (signal 9)",
        "always": "the worker process died (signal 9)",
    }
    assert outcome.failed == {runs["always"]: Failure(reasons["always"], 2, died=True)}
    assert leftovers(store) == []


@pytest.mark.slow
def test_killing_the_executor_again_and_again_changes_no_result(tmp_path):
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    ids = add(whole, 30)
    assert add(cut, 30) == ids
    run_local(whole, ids, "executor_jobs:halve", workers=2)
    moments = random.Random(5)
    for _ in range(3):
        kill_after(cut, moments.randrange(1, 8), moments.random() * 0.05)
    assert any(cut.status(run) != "finished" for run in ids)
    run_local(cut, ids, "executor_jobs:halve", workers=2)
    assert texts(cut) == texts(whole)
    assert leftovers(cut) == []


def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_running(store):
    ids = add(store, 3)
    parent = start(store, "hang")
    until(lambda: all((store.folder(run) / "pid").exists() for run in ids))
    until(lambda: store.status(ids[0]) == "finished")
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to all of them
    trace = parent.communicate(timeout=20)[1].decode()
    assert trace.count("Traceback") == 1
    assert trace.endswith("KeyboardInterrupt\n")
    until(lambda: members(parent.pid) == [], 10)
    assert [store.status(run) for run in ids] == ["finished", "waiting", "waiting"]
    assert leftovers(store) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "send"),
    [
        (signal.SIGINT, os.kill),
        (signal.SIGTERM, os.killpg),
        (signal.SIGHUP, os.killpg),
    ],
)
def test_a_signal_while_workers_start_or_work_leaves_no_lease(store, number, send):
    ids = add(store, 40)
    moments = random.Random(number)
    for works, longest in ((False, 0.5), (True, 0.05)):
        parent = start(store, "slow_halve")
        until(lambda works=works: not works or any(calls(store, run) for run in ids))
        time.sleep(longest * moments.random())
        send(parent.pid, number)
        last = parent.communicate(timeout=20)[1].decode().strip()
        assert last.endswith(("KeyboardInterrupt", "Stopped")) or not last
        assert leftovers(store) == []
        until(lambda pid=parent.pid: members(pid) == [], 10)
    assert any(store.status(run) == "waiting" for run in ids)


def test_workers_of_a_killed_parent_free_their_leases(store):
    ids = add(store, 40)
    parent = start(store, "slow_halve")
    until(lambda: any(store.folder(run).glob("call-*") for run in ids))
    parent.kill()
    parent.communicate()
    until(lambda: members(parent.pid) == [], 10)
    assert leftovers(store) == []


def test_two_executors_on_one_store_run_every_run_once(store):
    ids = add(store, 40)
    other = start(store, "slow_halve", workers=1)
    until(lambda: any(store.status(run) != "waiting" for run in ids))
    outcome = run_local(store, ids[::-1], "executor_jobs:slow_halve")
    assert other.communicate(timeout=30)[1] == b""
    assert len(outcome.finished) == 40
    assert [calls(store, run) for run in ids] == [1] * 40
    assert leftovers(store) == []


def test_a_run_that_another_process_holds_is_waited_for(store):
    (run,) = add(store, 1)
    lease = store.claim(run)
    events = []

    def progress(event):
        events.append((event.state, event.text))
        if event.state == "waiting":
            store.finish(run, {"by": "somebody else"})
            lease.release()

    outcome = run_local(store, [run], "executor_jobs:halve", progress=progress)
    assert outcome.finished == (run,)
    assert store.result(run) == {"by": "somebody else"}
    waiting = ("waiting", "another process works on it")
    assert events == [waiting, ("finished", "stored")]


def test_an_executor_without_patience_leaves_runs_of_others_to_them(store):
    ids = add(store, 3)
    lease = store.claim(ids[0])
    outcome = run_local(store, ids, "executor_jobs:halve", patient=False)
    assert outcome.finished == tuple(ids[1:])
    assert outcome.failed == {}
    assert lease.held()


def test_without_retry_what_failed_before_counts(store):
    raised, died, often = (store.add({"number": n}) for n in range(3))
    store.fail(raised, "ValueError: no")
    store.fail(died, "signal 9", died=True)
    store.fail(often, "signal 9", died=True)
    store.fail(often, "signal 9", died=True)
    ids = [raised, died, often]
    outcome = run_local(store, ids, "executor_jobs:halve", retry=False)
    assert outcome.finished == (died,)
    assert list(outcome.failed) == [raised, often]
    assert [calls(store, run) for run in ids] == [0, 1, 0]
    assert run_local(store, ids, "executor_jobs:halve").finished == tuple(ids)


@pytest.mark.slow
def test_after_the_limit_of_time_no_run_is_begun_and_the_last_ones_end(store):
    ids = add(store, 3)
    begun = time.monotonic()
    seen = []

    def look(event):
        if event.state == "running" and not event.text:
            seen.append(event.run)
            time.sleep(max(0.0, begun + 2.0 - time.monotonic()))

    outcome = run_local(store, ids, "executor_jobs:halve", seconds=2.0, progress=look)
    assert outcome.finished == tuple(seen) == (ids[0],)
    assert [store.status(run) for run in ids] == ["finished", "waiting", "waiting"]
    assert leftovers(store) == []


def test_a_full_disk_stops_the_study_with_one_sentence(store):
    (run,) = add(store, 1)
    with pytest.raises(StoreError, match=r"^cannot write .*: no space left.*\.$"):
        run_local(store, [run], "executor_jobs:fill_the_disk")
    assert store.status(run) == "waiting"
    assert leftovers(store) == []


@pytest.mark.parametrize(
    "work", ["executor_jobs", "executor_jobs:x", "no_such:x", ":x"]
)
def test_work_that_cannot_be_imported_is_refused(work):
    with pytest.raises(UsageError, match="importable module:function, got"):
        find_work(work)


def test_the_executor_passes_the_refusal_of_its_workers_on(store):
    with pytest.raises(UsageError, match="importable module:function, got 'no_such:x'"):
        run_local(store, add(store, 1), "no_such:x")


def test_a_script_without_a_guard_is_told_so(store, tmp_path):
    add(store, 1)
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from steppe_lab.execution.local import run_local\n"
        "from steppe_lab.store.store import Store\n"
        f"store = Store({str(store.root)!r})\n"
        "run_local(store, store.ids(), 'executor_jobs:halve')\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, timeout=60)
    assert b"below if __name__ == '__main__'" in ended.stderr


def test_numbers_below_one_are_refused(store):
    with pytest.raises(SettingError, match=r"workers must be >= 1, got 0\."):
        run_local(store, [], "executor_jobs:halve", workers=0)
