"""A disk that is full at any moment leaves a store that everybody can read."""

import errno
import os

import pytest

from steppe.errors import StoreError
from steppe_lab.store.json_files import write_record
from steppe_lab.store.store import Store
from steppe_lab.studies.doctor.examine import examine
from steppe_lab.studies.doctor.mend import mend

CALLS = ("open", "write", "fsync", "replace", "mkdir", "link")
CONFIGS = [{"kind": "dream", "seed": seed} for seed in range(3)]
RESULT = {"loss": 0.5, "values": list(range(50))}


class Disk:
    """Refuses one call that needs space, and all after it until there is room.

    Args:
        at: number of the call.
        monkeypatch: of the test.
    """

    def __init__(self, at, monkeypatch):
        self.left = at
        self.patch = monkeypatch
        for name in CALLS:
            monkeypatch.setattr(os, name, self.refusing(name, getattr(os, name)))

    @property
    def full(self):
        return self.left < 0

    def refusing(self, name, call):
        def refused(*given, **how):
            reads = name == "open" and not given[1] & os.O_CREAT
            if reads:
                return call(*given, **how)
            self.left -= 1
            if not self.full:
                return call(*given, **how)
            if name == "write":  # a part of it fits
                call(given[0], bytes(given[1])[: len(given[1]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return refused


def use(store):
    """All that is written in the life of runs; goes on where it was stopped."""
    first, second, third = (store.add(config) for config in CONFIGS)
    for run in (first, second, third):
        lease = store.claim(run)
        if lease is None:
            assert store.is_finished(run)
            continue
        with lease:
            write_record(store.artefact(run, "measures/a.json"), RESULT)
            write_record(store.artefact(run, "b.json"), RESULT, survives="nothing")
            if run == second:
                store.fail(run, "no", died=True)
                store.fail(run, "no again")
            else:
                store.finish(run, RESULT)
    store.reopen(third)


def states(store):
    rows = {row.id: (row.status, row.result, row.failure) for row in store.rows()}
    return {run: (*row[:2], row[2] and row[2].reason) for run, row in rows.items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("whole"))
    use(store)
    return states(store)


def test_a_full_disk_at_any_moment_leaves_a_readable_store(tmp_path, expected):
    for at in range(1000):
        store = Store(tmp_path / str(at))
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(at, patch)
            try:
                use(store)
            except StoreError as error:
                assert "no space left" in str(error)  # noqa: PT017 (one of many)
        if not disk.full:
            break
        for _, result, reason in states(Store(store.root)).values():
            assert result in (None, RESULT), at
            assert reason in (None, "no", "no again"), at
        if (store.root / "runs").exists() and store.ids():
            assert not [f for f in examine(store.root).findings if f.counts]
            mend(store.root)
        use(store)
        assert states(store) == expected, at
    assert at > 40
