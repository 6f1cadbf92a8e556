"""The examination of a store: its marker, its runs, its studies."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from steppe.errors import StoreError
from steppe_lab.progress import Progress, Report, silent
from steppe_lab.store.formats import MARKER, check_format, is_older
from steppe_lab.store.json_files import exists
from steppe_lab.store.store import Store
from steppe_lab.studies.comparison import stored_study
from steppe_lab.studies.doctor.files import complaint, leftovers, listed, read
from steppe_lab.studies.doctor.findings import Examination, Finding, ordered
from steppe_lab.studies.doctor.runs import How, RunFolder, of_other_data, orphans
from steppe_lab.studies.settings import COMPARED
from steppe_lab.studies.stored import open_study, study_names
from steppe_lab.training import starts
from steppe_lab.training.settings import SHA256

ASIDE = "damaged"  # folder of a store that damaged things are moved to
STUDIES = "studies"
_ID = re.compile("[0-9a-f]{16}")
_ABANDONED = 600.0  # seconds after which nobody writes a temporary file any more
_LOOK = 50  # runs between two reports


def examine(
    root: Path,
    *,
    quick: bool = False,
    trust: Collection[str] = (),
    progress: Report | None = None,
) -> Examination:
    """Look for damage in a store; nothing is changed.

    Args:
        root: folder of the store.
        quick: neither weights, states to resume from, kept measures nor files to start
            from are read.
        trust: code of the user, as module:function, that settings may name; whether
            other code has changed is not looked at.
        progress: called now and then.

    Raises:
        StoreError: there is no store, or nobody may read it.
    """
    if not exists(root / MARKER) and not exists(root / "runs"):
        raise StoreError(
            f"{root} holds no runs; name the folder that --out of `steppe study run`, "
            "`steppe compare` or `steppe train` wrote."
        )
    how = How(quick, trust, time.time() - _ABANDONED)
    marker = _marker(root)
    if marker and marker.counts:
        return Examination(root, Counter(), (marker,), quick)
    store, findings = Store(root), [marker] if marker else []
    folders = {}
    names, why = listed(root / "runs")
    if why:
        fix = "give yourself the right to read it"
        findings.append(Finding("damaged", root / "runs", why, fix))
    tell = progress or silent
    for number, name in enumerate(names):
        if number % _LOOK == 0:
            tell(Progress(number, len(names), "looking at runs"))
        if not _ID.fullmatch(name) or not (root / "runs" / name).is_dir():
            path = root / "runs" / name
            text, fix = f"{path} is the folder of no run", "move it out of the store"
            findings.append(Finding("note", path, text, fix))
            continue
        folders[name] = RunFolder(store, name, how)
        folders[name].examine()
        findings += folders[name].findings
    findings += [*orphans(folders), *of_other_data(folders)]
    findings += [*_starts(root, folders, quick=quick), *_studies(store, trust)]
    for folder in (root, root / STUDIES, root / starts.FOLDER, root / "runs"):
        findings += [
            Finding(
                "warning",
                path,
                f"{path} was left by a process that ended while it wrote",
                "remove it",
                "remove",
            )
            for path in leftovers(folder, listed(folder)[0], how.before)
        ]
    tell(Progress(len(names), len(names), "looking at runs"))
    counted = Counter(each.status for each in folders.values())
    return Examination(root, counted, ordered(findings), quick)


def _marker(root: Path) -> Finding | None:
    """The finding on the format of a store, which is damage where it stops all use."""
    path = root / MARKER
    try:
        if not exists(path):
            text = f"{path} is missing, which says the format of the store"
            return Finding("warning", path, text, "write it again", "mark")
        if is_older(root):
            text = f"{root} has an older format of stores"
            return Finding("damaged", path, text, "bring it up", "migrate")
        check_format(root)
    except StoreError as error:
        newer = "upgrade steppe" in str(error)
        fix = "upgrade steppe" if newer else "move it away, and write it again"
        why = complaint(error)
        return Finding("damaged", path, why, fix, "" if newer else "mark")
    return None


def _starts(
    root: Path, folders: dict[str, RunFolder], *, quick: bool
) -> Iterator[Finding]:
    """Files that trainings start from: those that are named, and their contents."""
    for run, each in folders.items():
        named = str((each.config or {}).get("start_from") or "")
        if named and not exists(starts.path_in(root, named)):
            lost = each.status != "finished"
            yield Finding(
                "damaged" if lost else "warning",
                starts.path_in(root, named),
                f"{starts.path_in(root, named)} is missing, which the training {run} "
                "starts from",
                "run the command with that file after --from again",
                run=run,
            )
    if quick:
        return
    for name in listed(root / starts.FOLDER)[0]:
        path = root / starts.FOLDER / name
        if not re.fullmatch("[0-9a-f]{64}", name):
            continue
        if not starts.is_as_named(path, SHA256 + name):
            text = f"{path} is not the file that its name says"
            fix = "move it away, and run the command with --from again"
            yield Finding("damaged", path, text, fix, "set_aside")


def _studies(store: Store, trust: Collection[str]) -> Iterator[Finding]:
    """Settings of studies: whole, and read by this version of steppe."""
    folder, studies = store.root / STUDIES, study_names(store)
    for name in listed(folder)[0]:
        path = folder / name
        if path.suffix != ".json":
            continue
        if why := read(path)[1]:
            fix = "move it away, and run the study again"
            yield Finding("damaged", path, why, fix, "set_aside")
            continue
        try:
            if path.stem in studies:
                open_study(store, path.stem, trust=trust)
            elif name.startswith(COMPARED):
                stored_study(store, path.stem, trust=trust)
        except StoreError as error:
            fix = "use it with the steppe, the code and the data that it was begun with"
            yield Finding("warning", path, complaint(error), fix)
