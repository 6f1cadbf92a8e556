"""Processes are killed, clocks jump, disks fill up: a study loses nothing."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import chaos_jobs
from steppe.files import leases
from steppe_lab.execution.local import run_local
from steppe_lab.store.store import Store


def add(store, count, seconds=0.0):
    return [store.add({"number": n, "seconds": seconds}) for n in range(count)]


def table(store):
    return {
        run: [
            (store.folder(run) / name).read_bytes()
            for name in ("result.json", "weights")
        ]
        for run in store.ids()
    }


def log_of(store):
    """Lines of the log: word, run, worker, driver."""
    path = store.root / chaos_jobs.LOG
    lines = path.read_text().splitlines() if path.exists() else []
    return [(w, r, int(p), int(d)) for w, r, p, d in map(str.split, lines)]


def leftovers(store):
    names = ("lease.json", ".*.tmp", ".*.stolen", ".*.breaker")
    return [path for name in names for path in store.root.glob(f"runs/*/{name}")]


def start(store, size):
    command = [sys.executable, chaos_jobs.__file__, str(store.root), str(size)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_a_clock_that_jumps_takes_no_work_from_those_who_live(tmp_path, shift):
    store = Store(tmp_path)
    (run,) = add(store, 1)
    lease = store.claim(run)
    moment = lease.path.stat().st_mtime + shift
    os.utime(lease.path, (moment, moment))
    assert store.status(run) == "waiting"  # by its age alone
    threading.Timer(0.3, lease.beat).start()
    assert store.claim(run) is None
    assert lease.held()


def test_a_process_that_lives_and_is_silent_is_watched_before_its_lease_is_broken(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(leases, "_WATCHED", 0.1)
    store = Store(tmp_path)
    (run,) = add(store, 1)
    lease = store.claim(run)
    os.utime(lease.path, (0, 0))
    assert store.claim(run).held()
    assert not lease.held()


def test_numbers_of_processes_say_nothing_on_a_copy_of_this_computer(tmp_path):
    store = Store(tmp_path)
    (run,) = add(store, 1)
    lease = store.claim(run)
    holder = json.loads(lease.path.read_text())
    name, boot, namespace = holder["host"].split("/")
    copy = f"{name}/{boot[::-1]}/{namespace}"
    lease.path.write_text(json.dumps({**holder, "host": copy, "pid": 2**40}))
    assert store.status(run) == "running"
    assert store.claim(run) is None


class Chaos:
    """Two drivers on one store, and what is done to them."""

    def __init__(self, store, size, seed):
        self.store = store
        self.size = size
        self.moments = random.Random(seed)
        self.drivers = []
        self.killed = set()  # workers and drivers
        self.shifts = 0

    def kill_worker(self):
        ended = {run for word, run, *_ in log_of(self.store) if word == "end"}
        busy = [
            (pid, driver)
            for word, run, pid, driver in log_of(self.store)
            if word == "begin" and run not in ended and self._is_child(pid)
        ]
        if not busy:
            return False
        pid, _ = self.moments.choice(busy)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.killed.add(pid)
        return True

    def kill_driver(self):
        driver = self.moments.choice(self.drivers)
        driver.kill()
        self.killed.add(driver.pid)
        return True

    def shift_a_lease(self):
        """What a clock that jumps does to the times of leases."""
        for path in self.store.root.glob("runs/*/lease.json"):
            with contextlib.suppress(OSError):
                moment = time.time() + self.moments.choice([-1e4, 1e4])
                os.utime(path, (moment, moment))
                self.shifts += 1
        return True

    def keep_two(self):
        for driver in list(self.drivers):
            if driver.poll() is not None:
                driver.communicate()
                self.drivers.remove(driver)
        while len(self.drivers) < 2:
            self.drivers.append(start(self.store, self.size))

    def end(self):
        for driver in self.drivers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(60)
            driver.kill()
            driver.communicate()

    def _is_child(self, pid):
        return leases.is_alive(pid, None) and pid not in self.killed


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seed"), [(1, 1), (4, 2)])
def test_twenty_kills_change_no_result_and_repeat_no_run_that_was_not_hit(
    tmp_path, size, seed
):
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    ids = add(whole, 240, 0.1)
    assert add(cut, 240, 0.1) == ids
    run_local(whole, ids, "chaos_jobs:work", workers=2)
    chaos = Chaos(cut, size, seed)
    acts = [chaos.kill_worker] * 14 + [chaos.kill_driver] * 6
    acts += [chaos.shift_a_lease] * 6
    chaos.moments.shuffle(acts)
    count = len(acts)
    until = time.monotonic() + 240
    while (done := sum(map(cut.is_finished, ids))) < len(ids):
        assert time.monotonic() < until
        chaos.keep_two()
        time.sleep(0.02 + 0.04 * chaos.moments.random())
        # Spread over the first four fifths, however fast the machine is.
        due = done >= 0.8 * len(ids) * (count - len(acts)) / count
        if acts and due and log_of(cut) and acts[-1]():
            acts.pop()
    chaos.end()
    assert not acts, "all was done before everything had happened"
    assert chaos.shifts > 0
    assert table(cut) == table(whole)
    log = log_of(cut)
    for run in ids:
        begun = [(pid, driver) for w, r, pid, driver in log if (w, r) == ("begin", run)]
        # Whoever began it before the last one was killed, or its driver was.
        for pid, driver in begun[:-1]:
            assert {pid, driver} & chaos.killed, (run, begun)
    outcome = run_local(cut, ids, "chaos_jobs:work")
    assert outcome.finished == tuple(ids)
    assert log_of(cut) == log
    assert leftovers(cut) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        mounted = None
    if mounted is None or mounted.returncode != 0:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_again_and_again_loses_nothing(small_disk, tmp_path):
    whole, cut = Store(tmp_path / "whole"), Store(small_disk / "cut")
    ids = add(whole, 40, 0.05)
    assert add(cut, 40, 0.05) == ids
    run_local(whole, ids, "chaos_jobs:work", workers=2)
    ballast, sentences = small_disk / "ballast", []
    for limit in (5, 15, 25):
        driver = start(cut, 1)
        while sum(map(cut.is_finished, ids)) < limit and driver.poll() is None:
            time.sleep(0.01)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        sentences.append(driver.communicate(timeout=60)[1].decode().splitlines()[-1])
        before = table_of_finished(cut)
        ballast.unlink()
        assert before.items() <= table_of_finished(cut).items()
    assert all("no space left on device" in each for each in sentences)
    outcome = run_local(cut, ids, "chaos_jobs:work", workers=2)
    assert outcome.finished == tuple(ids)
    assert table(cut) == table(whole)
    assert leftovers(cut) == []


def table_of_finished(store):
    return {
        run: (store.folder(run) / "result.json").read_bytes()
        for run in store.ids()
        if store.is_finished(run)
    }
