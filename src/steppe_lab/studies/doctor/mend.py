"""Repairs of a store: nothing that is whole is lost, and damaged things are moved."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from steppe.files import leases, sync_folder
from steppe_lab.progress import Report
from steppe_lab.store.formats import migrate, write_marker
from steppe_lab.store.json_files import cannot
from steppe_lab.store.store import STALE_AFTER, Store
from steppe_lab.studies.doctor.examine import ASIDE, examine
from steppe_lab.studies.doctor.findings import Examination, Finding, ordered

_LEASE = "lease.json"
_OF_STORE = ("mark", "migrate")


def mend(
    root: Path,
    *,
    quick: bool = False,
    trust: Collection[str] = (),
    progress: Report | None = None,
) -> Examination:
    """Examine a store, and do the repairs that its findings name.

    Each repair holds the lease of its run, so that nobody works on it meanwhile; a run
    that somebody has begun since is left alone.

    Args:
        root: folder of the store.
        quick: see `examine`.
        trust: see `examine`.
        progress: see `examine`.

    Returns:
        The findings, with those marked that are mended.

    Raises:
        StoreError: there is no store, somebody works in one of an older format, or
            something cannot be moved; what was mended before stays so.
    """
    first = _mended(examine(root, quick=quick, trust=trust, progress=progress))
    if not any(each.mended and each.repair in _OF_STORE for each in first.findings):
        return first
    # Nothing else could be looked at before.
    rest = _mended(examine(root, quick=quick, trust=trust, progress=progress))
    return replace(rest, findings=ordered([*first.findings, *rest.findings]))


def _mended(examination: Examination) -> Examination:
    findings = tuple(
        each.done() if each.repair and _is_mended(each, examination.root) else each
        for each in examination.findings
    )
    return replace(examination, findings=findings)


def _is_mended(finding: Finding, root: Path) -> bool:
    path = finding.path
    try:
        if finding.repair == "mark":
            if path.exists():
                _set_aside(path, root)
            write_marker(root)
            return True
        if finding.repair == "migrate":
            migrate(root, STALE_AFTER)
            return True
        with _alone(finding, root) as alone:
            if not alone:
                return False
            if finding.repair == "set_aside":
                _set_aside(path, root)
            elif finding.repair == "remove":
                _remove(path)
        return True
    except OSError as error:
        raise cannot("move", path, error) from error


@contextlib.contextmanager
def _alone(finding: Finding, root: Path) -> Iterator[bool]:
    """Whether nobody else works on the run of a finding, until the block ends."""
    if not finding.run or finding.path.name == finding.run:
        # The folder itself goes: a lease in it would go with it.
        busy = finding.run and _is_held(finding.path / _LEASE)
        yield not busy
        return
    store = Store(root)
    store.free(finding.run)
    lease = leases.create(store.folder(finding.run) / _LEASE)
    if lease is None:
        yield False
        return
    with lease:
        yield True


def _is_held(path: Path) -> bool:
    return path.exists() and not leases.is_stale(
        path, Store(path.parents[2]).stale_after
    )


def _set_aside(path: Path, root: Path) -> None:
    """Move to the folder of damaged things, below the same names."""
    if not path.exists():  # moved with another finding
        return
    target = root / ASIDE / path.relative_to(root)
    number = 1
    while target.exists():
        number += 1
        target = (
            root / ASIDE / path.relative_to(root).with_name(f"{path.name}.{number}")
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # By copy where the runs are a file system of their own.
    shutil.move(path, target)
    sync_folder(path.parent)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.rmdir() if path.is_dir() else path.unlink()
