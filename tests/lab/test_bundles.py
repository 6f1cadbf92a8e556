"""Runs that one worker does together: each ends by itself, and takes none along."""

import pytest

from steppe.errors import StoreError, UsageError
from steppe_lab import work as every_kind
from steppe_lab.execution.abstract import Bundles
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Progress
from steppe_lab.runs import WORK_TOGETHER
from steppe_lab.store.store import Store

TOGETHER = "executor_jobs:together"
ONE = "executor_jobs:kill_or_halve"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def add(store, hows):
    return [store.add({"number": n, "how": how}) for n, how in enumerate(hows)]


def by(size):
    return lambda runs: [
        tuple(runs[begin : begin + size]) for begin in range(0, len(runs), size)
    ]


def groups(store):
    path = store.root / "groups"
    return path.read_text().splitlines() if path.exists() else []


def calls(store, run):
    return len(list(store.folder(run).glob("call-*")))


def leases(store):
    return list(store.root.glob("runs/*/lease.json"))


def run(store, ids, size, work=TOGETHER, **more):
    return run_local(store, ids, ONE, bundles=Bundles(by(size), work), **more)


def test_bundles_give_the_results_of_single_runs(tmp_path):
    alone, bundled = Store(tmp_path / "alone"), Store(tmp_path / "bundled")
    ids = add(alone, [""] * 7)
    assert add(bundled, [""] * 7) == ids
    run_local(alone, ids, ONE)
    events = []
    outcome = run(bundled, ids, 3, workers=2, progress=events.append)
    assert outcome.finished == tuple(ids)
    assert [bundled.result(i) for i in ids] == [alone.result(i) for i in ids]
    assert sorted(groups(bundled)) == ["0 1 2", "3 4 5"]
    assert [calls(bundled, i) for i in ids] == [1] * 7
    assert leases(bundled) == []
    ends = [event.run for event in events if event.ended]
    assert sorted(ends) == sorted(ids)
    half = [event.run for event in events if event.text == "half done"]
    assert set(half) == set(ids)


def test_a_member_that_raises_or_says_nothing_fails_alone(store):
    ids = add(store, ["", "raise", "silent", ""])
    outcome = run(store, ids, 4)
    assert outcome.finished == (ids[0], ids[3])
    reasons = [outcome.failed[i].reason for i in ids[1:3]]
    assert reasons == [
        "ValueError: this one alone",
        "work on several runs must call done for each.",
    ]
    assert "ValueError" in store.artefact(ids[1], "traceback.txt").read_text()
    assert leases(store) == []


def test_a_network_that_kills_its_worker_takes_no_other_along(store):
    ids = add(store, ["", "", "", "", "", "kill", "", ""])
    outcome = run(store, ids, 8)
    assert set(outcome.failed) == {ids[5]}
    assert outcome.failed[ids[5]].attempts == 2
    assert outcome.failed[ids[5]].died
    # Ended members stay; of those left, 5 6 7, the first half is one run, alone.
    assert groups(store) == ["0 1 2 3 4 5 6 7", "6 7"]
    assert [calls(store, i) for i in ids] == [1, 1, 1, 1, 1, 0, 1, 1]
    assert all(store.failure(i) is None for i in ids if i != ids[5])


def test_deaths_halve_a_bundle_until_the_cause_is_alone(store):
    ids = add(store, ["kill", "", "", "", "", "", "", ""])
    outcome = run(store, ids, 8)
    assert outcome.finished == tuple(ids[1:])
    assert groups(store) == ["0 1 2 3 4 5 6 7", "0 1 2 3", "0 1", "2 3", "4 5 6 7"]
    assert [calls(store, i) for i in ids] == [0, *[1] * 7]


def test_an_exception_of_all_is_tried_again_in_halves(store):
    ids = add(store, ["", "all", "", ""])
    outcome = run(store, ids, 4)
    assert outcome.finished == tuple(ids)
    assert groups(store) == ["0 1 2 3", "2 3"]
    assert [calls(store, i) for i in ids] == [1] * 4


def test_members_that_others_hold_or_have_finished_are_left_to_them(store):
    ids = add(store, [""] * 4)
    lease = store.claim(ids[1])
    store.finish(ids[2], {"by": "somebody else"})

    def finish(event):
        if event.state == "waiting":
            store.finish(ids[1], {"by": "another"})
            lease.release()

    outcome = run(store, ids, 4, progress=finish)
    assert outcome.finished == tuple(ids)
    assert groups(store) == ["0 3"]
    assert store.result(ids[1]) == {"by": "another"}


def test_a_lease_ends_with_its_member_and_not_with_the_bundle(store):
    ids = add(store, [""] * 3)
    seen = []

    def look(event):
        if event.text == "all others":
            seen.append([store.status(i) for i in ids])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(store, ids, 3, "executor_jobs:together_for_ever", progress=look)
    assert seen == [["finished", "running", "running"]]
    assert [store.status(i) for i in ids] == ["finished", "waiting", "waiting"]
    assert leases(store) == []


def test_a_full_disk_under_a_bundle_is_one_sentence(store):
    ids = add(store, [""] * 3)
    with pytest.raises(StoreError, match=r"^cannot write .*: no space left.*\.$"):
        run(store, ids, 3, "executor_jobs:together_on_a_full_disk")
    assert [store.status(i) for i in ids] == ["waiting"] * 3
    assert leases(store) == []


def test_runs_that_follow_are_bundled_too(store):
    first = add(store, [""])
    later = [store.add({"number": n}) for n in (7, 8)]
    outcome = run(
        store,
        first,
        2,
        then=lambda run, finished: later if run == first[0] else (),
    )
    assert outcome.finished == (*first, *later)
    assert groups(store) == ["7 8"]


@pytest.mark.parametrize(
    "cut", [lambda runs: [tuple(runs[:1])], lambda runs: [tuple(runs), tuple(runs)]]
)
def test_bundles_that_lose_or_repeat_runs_are_refused(store, cut):
    ids = add(store, [""] * 2)
    with pytest.raises(UsageError, match="each of 2 runs once, got"):
        run_local(store, ids, ONE, bundles=Bundles(cut, TOGETHER))


def test_the_work_of_every_kind_does_other_kinds_than_training_one_by_one(
    monkeypatch, tmp_path
):
    def work(config, folder, report):
        report(every_kind_progress)
        if config["number"] == 1:
            raise ValueError("one")
        return {"number": config["number"]}

    every_kind_progress = Progress(0.5)
    monkeypatch.setattr(every_kind, "work", work)
    ends, events = [], []
    configs = [{"kind": "scoring", "number": n} for n in range(3)]
    folders = [tmp_path / f"{n}" for n in range(3)]
    every_kind.work_together(
        configs, folders, events.append, lambda *end: ends.append(end)
    )
    assert [event.run for event in events] == ["0", "1", "2"]
    assert [index for index, _ in ends] == [0, 1, 2]
    assert (ends[0][1], ends[2][1]) == ({"number": 0}, {"number": 2})
    assert isinstance(ends[1][1], ValueError)
    module, _, name = WORK_TOGETHER.partition(":")
    assert getattr(every_kind, name).__module__ == module
