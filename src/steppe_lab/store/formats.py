"""Formats of stores by number, and the steps from each to the next.

The marker `store.json` names the format. While a step is done it names the next one,
and the one that it comes from: an older steppe refuses the store from the first change
on, and a step that was stopped is done again.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steppe.errors import StoreError
from steppe.files import leases
from steppe_lab.store.json_files import cannot, exists, read_json, write_json

MARKER = "store.json"
FIRST = 1
# Called with the folder of each run, also of one that an earlier call has changed.
# The first step leads from the first format to the next.
STEPS: list[Callable[[Path], None]] = []
_FROM = "from"  # in the marker of a store whose step is not over
_LEASE = "migration.json"


def newest() -> int:
    """The format that this version of steppe reads and writes."""
    return FIRST + len(STEPS)


def write_marker(root: Path, **more: Any) -> None:
    """Say the newest format in a store.

    Raises:
        StoreError: the marker cannot be written.
    """
    record = {"format": newest(), "steppe": version(), **more}
    write_json(root / MARKER, record)


def check_format(root: Path) -> None:
    """Refuse a store of another format than the newest, if there is a store.

    Raises:
        StoreError: its format is newer or older, a step to this one is not over, or
            its marker is damaged.
    """
    if not exists(root / MARKER):
        return
    record = _marker(root)
    number = record["format"]
    if number > newest():
        raise StoreError(
            f"{root} has store format {number}, made by steppe "
            f"{record.get('steppe')}, and steppe {version()} reads up to {newest()}; "
            "upgrade steppe."
        )
    if number < newest() or _FROM in record:
        raise StoreError(
            f"{root} has store format {record.get(_FROM, number)}, and steppe "
            f"{version()} has {newest()}; run `steppe study doctor --fix --out {root}` "
            "to bring it up."
        )


def is_older(root: Path) -> bool:
    """Whether a store has an older format, or a step from one is not over.

    Raises:
        StoreError: its marker is damaged.
    """
    if not exists(root / MARKER):
        return False
    record = _marker(root)
    return bool(record["format"] < newest() or _FROM in record)


def migrate(root: Path, stale_after: float) -> int:
    """Bring a store up to the newest format, one step after another.

    Args:
        root: of a store of an older format.
        stale_after: seconds after which a holder of a lease counts as gone.

    Returns:
        Number of steps that were done.

    Raises:
        StoreError: somebody works in the store, or something cannot be written. The
            next call goes on where this one stopped.
    """
    path, done = root / _LEASE, 0
    try:
        leases.break_stale(path, stale_after)
        lease = leases.create(path)
    except OSError as error:
        raise cannot("write", path, error) from error
    if lease is None:
        raise StoreError(f"another process changes the format of {root}; wait for it.")
    with lease:
        while is_older(root):
            record = _marker(root)
            start = record.get(_FROM, record["format"])
            _refuse_work(root, stale_after)
            marker = {"format": start + 1, "steppe": version()}
            write_json(root / MARKER, {**marker, _FROM: start})
            # Again: a run may have been begun before the new marker was there.
            _refuse_work(root, stale_after)
            for folder in _runs(root):
                STEPS[start - FIRST](folder)
                lease.beat()
            write_json(root / MARKER, marker)
            done += 1
    return done


def version() -> str:
    """The version of steppe."""
    return importlib.metadata.version("steppe")


def _runs(root: Path) -> list[Path]:
    try:
        return sorted(path for path in (root / "runs").iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("read", root / "runs", error) from error


def _refuse_work(root: Path, stale_after: float) -> None:
    for folder in _runs(root):
        lease = folder / "lease.json"
        if exists(lease) and not leases.is_stale(lease, stale_after):
            raise StoreError(
                f"a process works on {folder}, and the format of a store changes while "
                "nobody works; wait for it, or stop it."
            )


def _marker(root: Path) -> dict[str, Any]:
    marker, fix = root / MARKER, "restore it, or name another folder"
    record = read_json(marker, fix)
    number = record.get("format") if isinstance(record, dict) else None
    start = record.get(_FROM, number) if isinstance(record, dict) else None
    if type(number) is not int or type(start) is not int or start < FIRST:
        raise StoreError(f"{marker} is damaged (no format number); {fix}.")
    return dict(record)
