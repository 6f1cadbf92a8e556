"""The run store: a folder that many processes write and anybody can read by hand.

    store.json                  format of the store
    runs/<id>/config.json       settings, written once; the id is their digest
    runs/<id>/result.json       there when the run is finished
    runs/<id>/failure.json      reason and number of attempts of a run that failed
    runs/<id>/lease.json        there while a process works on the run
    runs/<id>/...               artefacts: histories, weights, pictures

Every file is whole or absent, and knows its checksum; that of the settings is the id.
There is no index and no server: tables are derived.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from steppe.errors import SettingError, StoreError
from steppe.files import TEMPORARY, leases, sync_folder
from steppe.files.leases import Lease
from steppe_lab.store.formats import MARKER, check_format, write_marker
from steppe_lab.store.json_files import (
    cannot,
    digest,
    exists,
    read_json,
    read_record,
    read_settings,
    write_json,
    write_record,
)

STALE_AFTER = 60.0  # seconds without a heartbeat
_WRITERS = 16  # threads

_ID = re.compile("[0-9a-f]{16}")
Status = Literal["finished", "failed", "running", "waiting"]

_CONFIG, _RESULT = "config.json", "result.json"
_FAILURE, _LEASE = "failure.json", "lease.json"


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    reason: str  # one line, of the last attempt
    attempts: int  # how often it was tried, this one included
    died: bool = False  # the process ended, as opposed to an exception in the work
    final: bool = False  # follows from the settings: trying again changes nothing


@dataclass(frozen=True)
class Row:
    """One run, as it stands."""

    id: str
    status: Status
    config: dict[str, Any]
    result: dict[str, Any] | None
    failure: Failure | None  # also beside a result, when an earlier attempt failed


def run_id(config: dict[str, Any]) -> str:
    """The id of the run with these settings: 16 hex digits of their digest."""
    return digest(config)[:16]


def is_id(name: str) -> bool:
    """Whether a name has the form of a run's id."""
    return _ID.fullmatch(name) is not None


class Store:
    """Runs in a folder, by id.

    Args:
        root: the folder; made when the first run is added.
        stale_after: seconds without a heartbeat after which a lease may be stolen.

    Raises:
        StoreError: it has another format, or its marker is damaged.
    """

    def __init__(self, root: Path | str, *, stale_after: float = STALE_AFTER) -> None:
        self.root = Path(root)
        self.stale_after = stale_after
        self._runs = self.root / "runs"
        check_format(self.root)

    def add(self, config: dict[str, Any]) -> str:
        """Put a run down, unless it is there; its id comes from its settings.

        Raises:
            SettingError: the settings are no JSON, or not finite.
            StoreError: other settings have this id, or nothing can be written.
        """
        return self.add_all([config])[0]

    def add_all(self, configs: Sequence[dict[str, Any]]) -> list[str]:
        """Put runs down, unless they are there; their ids in the same order.

        Settings of an unfinished run that are no whole JSON are written again.

        Raises:
            SettingError: settings that are no JSON, or not finite; no run is added.
            StoreError: other settings have an id, or nothing can be written.
        """
        runs = [run_id(config) for config in configs]
        if not exists(self.root / MARKER):
            write_marker(self.root)
        there = set(self.ids()) if len(runs) > 1 else runs
        new = {
            run: config
            for run, config in zip(runs, configs, strict=True)
            if run not in there or not self._is_down(run)
        }
        if len(new) == 1:
            self._put_down(*new.popitem())
            sync_folder(self._runs)
        elif new:
            # Most of the time passes until the disk has a file; it takes many at once.
            with ThreadPoolExecutor(_WRITERS) as writers:
                list(writers.map(self._put_down, new, new.values()))
            sync_folder(self._runs)
        return runs

    def _is_down(self, run: str) -> bool:
        """Whether the settings of a run are there; those that are none do not count."""
        path = self.folder(run) / _CONFIG
        if not exists(path):
            return False
        try:
            self.config(run)
        except StoreError:
            # Whoever adds a run has its settings, and a loss of power may have emptied
            # the file. Settings of another run, or beside a result, need a look.
            if self.is_finished(run) or _is_json(path):
                raise
            return False
        return True

    def _put_down(self, run: str, config: dict[str, Any]) -> None:
        # Two that add one run at once write the same bytes, so no lock is needed.
        folder = self.folder(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot("write", folder, error) from error
        # Its folder is synced with the result: settings alone can be put down again.
        write_json(folder / _CONFIG, config, survives="content")

    def ids(self) -> list[str]:
        """All runs, sorted by id."""
        try:
            names = os.listdir(self._runs)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise cannot("read", self._runs, error) from error
        return sorted(filter(_ID.fullmatch, names))

    def folder(self, run: str) -> Path:
        """The folder of a run.

        Raises:
            StoreError: what is no id, such as a path that leaves the store.
        """
        if not _ID.fullmatch(run):
            raise StoreError(
                f"there is no run {run} in {self.root}: an id has 16 hexadecimal "
                "digits; take one that the store gave."
            )
        return self._runs / run

    def artefact(self, run: str, name: str) -> Path:
        """Where an artefact lies or is to be written.

        Args:
            run: its id.
            name: relative, with forward slashes: `measures/lpf-ab12.json`.

        Raises:
            SettingError: a name that leaves the folder or belongs to the store.
        """
        parts = PurePath(name).parts
        own = parts[:1] in [(name,) for name in (_CONFIG, _RESULT, _FAILURE, _LEASE)]
        if own or not parts or ".." in parts or PurePath(name).is_absolute():
            raise SettingError(
                f"an artefact must have a relative name of its own, got '{name}'."
            )
        return self.folder(run).joinpath(*parts)

    def has(self, run: str) -> bool:
        """Whether a run was added."""
        return exists(self.folder(run) / _CONFIG)

    def is_finished(self, run: str) -> bool:
        """Whether there is a result; False too for a run that was never added."""
        return exists(self.folder(run) / _RESULT)

    def finished_at(self, run: str) -> float | None:
        """When a run finished, in seconds since 1970; None where it has not."""
        try:
            return (self.folder(run) / _RESULT).stat().st_mtime
        except OSError:
            return None

    def status(self, run: str) -> Status:
        """How a run stands; a retry under way counts as running."""
        return self._status(run, _names(self.folder(run)))

    def config(self, run: str) -> dict[str, Any]:
        """Settings of a run, which its id is the digest of.

        Raises:
            StoreError: they are missing, damaged, or those of another run.
        """
        folder = self.folder(run)
        fix = f"delete the folder {folder} and run again"
        record, name = read_settings(folder / _CONFIG, fix)
        if not isinstance(record, dict):
            raise self.damaged(run, _CONFIG, "not a JSON object")
        if name[:16] != run:
            raise StoreError(
                f"{self.folder(run) / _CONFIG} holds other settings than its name "
                f"says; delete the folder {self.folder(run)} and run again."
            )
        return record

    def result(self, run: str) -> dict[str, Any]:
        """The result of a finished run.

        Raises:
            StoreError: not finished, or the file is damaged.
        """
        return self._read(run, _RESULT)

    def failure(self, run: str) -> Failure | None:
        """The last failure of a run, if it ever failed."""
        if not exists(self.folder(run) / _FAILURE):
            return None
        record = self._read(run, _FAILURE)
        kinds = {"reason": str, "attempts": int, "died": bool, "final": bool}
        wrong = [name for name in record if type(record[name]) is not kinds.get(name)]
        if wrong or not {"reason", "attempts"} <= record.keys():
            raise self.damaged(run, _FAILURE, "values of another kind")
        return Failure(**record)

    def finish(self, run: str, result: dict[str, Any]) -> None:
        """Store the result of a run, for good: a result already there stays."""
        path = self.folder(run) / _RESULT
        # A worker whose lease was stolen while it slept must not replace the other's.
        if not exists(path):
            write_record(path, result)

    def reopen(self, run: str) -> None:
        """Forget the result of a run, so that it is worked on again."""
        path = self.folder(run) / _RESULT
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot("remove", path, error) from error

    def fail(
        self, run: str, reason: str, *, died: bool = False, final: bool = False
    ) -> Failure:
        """Record one more failed attempt; call it while holding the lease."""
        before = self.failure(run)
        line = " ".join(reason.split())
        attempts = 1 + (before.attempts if before else 0)
        failure = Failure(line, attempts, died, final)
        write_record(self.folder(run) / _FAILURE, asdict(failure))
        return failure

    def claim(self, run: str) -> Lease | None:
        """Take a run to work on it; None when it is finished or somebody has it.

        Raises:
            StoreError: no such run, or nothing can be written.
        """
        folder = self.folder(run)
        if not exists(folder / _CONFIG):
            raise StoreError(f"there is no run {run} in {self.root}; add it first.")
        # First of all the lease of a dead holder, which would block the run for good.
        self.free(run)
        if exists(folder / _RESULT):
            return None
        try:
            lease = leases.create(folder / _LEASE)
        except OSError as error:
            raise cannot("write", folder / _LEASE, error) from error
        if lease is None:
            return None
        # Another process may have finished between the look above and the lease.
        if exists(folder / _RESULT):
            lease.release()
            return None
        for leftover in folder.rglob(f".*{TEMPORARY}"):  # of a writer that was killed
            with contextlib.suppress(OSError):
                leftover.unlink()
        return lease

    def free(self, run: str) -> bool:
        """Remove the lease of a holder that is gone; True when there was one."""
        path = self.folder(run) / _LEASE
        try:
            return path.exists() and leases.break_stale(path, self.stale_after)
        except OSError as error:
            raise cannot("write", path, error) from error

    def rows(self, runs: Iterable[str] | None = None) -> Iterator[Row]:
        """Runs with settings, result and failure, in the order given, or sorted by id.

        Without an order, folders whose settings are still to be written are left out.

        Raises:
            StoreError: a file is damaged; it is named.
        """
        for run in self.ids() if runs is None else runs:
            names = _names(self.folder(run))
            if runs is None and _CONFIG not in names:
                continue
            yield Row(
                run,
                self._status(run, names),
                self.config(run),
                self.result(run) if _RESULT in names else None,
                self.failure(run) if _FAILURE in names else None,
            )

    def _status(self, run: str, names: set[str]) -> Status:
        if _CONFIG not in names:
            raise StoreError(f"there is no run {run} in {self.root}; add it first.")
        if _RESULT in names:
            return "finished"
        lease = self.folder(run) / _LEASE
        if _LEASE in names and not leases.is_stale(lease, self.stale_after):
            return "running"
        return "failed" if _FAILURE in names else "waiting"

    def _read(self, run: str, name: str) -> dict[str, Any]:
        folder = self.folder(run)
        fix = f"delete the folder {folder} and run again"
        record: dict[str, Any] = read_record(folder / name, fix)
        return record

    def damaged(self, run: str, name: str, why: str) -> StoreError:
        """One sentence for a file of a run that is not as it was written."""
        folder = self.folder(run)
        return StoreError(
            f"{folder / name} is damaged ({why}); "
            f"delete the folder {folder} and run again."
        )


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise cannot("read", folder, error) from error


def _is_json(path: Path) -> bool:
    try:
        read_json(path)
    except StoreError:
        return False
    return True
