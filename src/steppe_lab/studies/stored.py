"""Studies that a store remembers: their settings, version by version.

    studies/NAME.json      the newest settings of a study, and their number
    studies/NAME.1.json    those of an earlier version
    studies/NAME.trials.json   the trials, where code of the user is in them

A study at a scale is a study of its own, NAME@SCALE. Runs belong to no study: what two
versions or two studies share is computed once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steppe.errors import SettingError, StoreError, TrustError, UnknownNameError
from steppe.registry.registry import reading, unknown_name
from steppe_lab.complaints import reason_of
from steppe_lab.store.json_files import exists, read_record, write_record
from steppe_lab.store.store import Store
from steppe_lab.studies.collecting import Column, table_of
from steppe_lab.studies.expansion import plan_of_study
from steppe_lab.studies.plan import Plan
from steppe_lab.studies.settings import COMPARED, StudySettings
from steppe_lab.studies.stored_trials import plan_of_record, record_of
from steppe_lab.studies.study import Study
from steppe_lab.studies.table import StudyTable

FOLDER = "studies"
_FIX = "restore it, or delete it and run the study again"


@dataclass(frozen=True)
class StoredStudy:
    """A study as a store remembers it, or as it is about to be."""

    settings: StudySettings
    version: int  # counted from 1
    plan: Plan
    store: Store
    columns: Sequence[Column] | None = None  # of measures; None where texts give them

    @cached_property
    def study(self) -> Study:
        """Its trials, and the state of their runs."""
        return Study(self.plan, self.store)

    def table(self) -> StudyTable:
        """Its table, of the results at hand."""
        return table_of(self.study, self.settings, self.columns)


def study_names(store: Store) -> list[str]:
    """Names of the studies of a store, sorted; comparisons are none of them."""
    names = (path.stem for path in (store.root / FOLDER).glob("*.json"))
    return sorted(
        name for name in names if "." not in name and not name.startswith(COMPARED)
    )


def open_study(
    store: Store, name: str | None = None, *, trust: Collection[str] = ()
) -> StoredStudy:
    """A study of a store; its settings are data, not code.

    Args:
        store: where it was begun.
        name: of the study, or the beginning of its name; None for the newest.
        trust: code of the user, as module:function, that its settings may name.

    Raises:
        UnknownNameError: no such study, or several.
        StoreError: none was begun there, its settings are damaged, or they name code
            that is not trusted.
    """
    return _opened(store, _chosen(store, name), trust)


def open_results(
    store: Store, name: str | None = None, *, trust: Collection[str] = ()
) -> StoredStudy:
    """A study of a store, to read its results alone.

    No code of the user is needed where the store remembers the trials; a study that was
    last run before stores did needs it to be trusted.

    Args:
        store: where it was begun.
        name: see `open_study`.
        trust: see `open_study`.

    Raises:
        UnknownNameError: no such study, or several.
        StoreError: see `open_study`.
    """
    chosen = _chosen(store, name)
    path, trials = _path(store, chosen), _trials_path(store, chosen)
    settings, version = _settings(path), int(_record(path)["version"])
    record = read_record(trials, _FIX) if exists(trials) else {}
    # A stop between the two files leaves trials of the version before.
    if record.get("version") != version:
        return _opened(store, chosen, trust)
    try:
        plan, columns = plan_of_record(record)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoreError(
            f"{trials} is damaged (no trials of a study); {_FIX}."
        ) from error
    return StoredStudy(settings, version, plan, store, columns)


def versions(store: Store, name: str) -> list[StudySettings]:
    """All settings that a study of a name has had in a store, the newest last.

    Raises:
        StoreError: one of them is damaged.
    """
    newest = _path(store, name)
    if not exists(newest):
        return []
    count = int(_record(newest)["version"])
    older = [_path(store, f"{name}.{number}") for number in range(1, count)]
    return [_settings(path) for path in (*filter(exists, older), newest)]


def version_of(store: Store, settings: StudySettings) -> int:
    """The number that a study has in a store, or gets there when it is begun."""
    path = _path(store, settings.stored_name)
    if not exists(path):
        return 1
    before = _record(path)
    same = before["settings"] == settings.model_dump(mode="json")
    return int(before["version"]) + (not same)


def remember(store: Store, settings: StudySettings, plan: Plan | None = None) -> None:
    """Write the settings of a study down; others of its name are kept with a number.

    Args:
        store: of its runs.
        settings: of the study.
        plan: its trials, remembered where code of the user is in them.

    Raises:
        StoreError: settings of that name are damaged, or nothing can be written.
    """
    name, version = settings.stored_name, version_of(store, settings)
    path = _path(store, name)
    before = _record(path) if exists(path) else {"version": 0}
    if before["version"] != version:
        if before["version"]:
            # First the old one: a stop between the two loses neither.
            write_record(_path(store, f"{name}.{before['version']}"), before)
        record = {"version": version, "settings": settings.model_dump(mode="json")}
        write_record(path, record)
    trials = None if plan is None else record_of(plan, settings, version)
    if trials is not None:
        write_record(_trials_path(store, name), trials)


def changed_study(
    before: StoredStudy, settings: StudySettings, *, trust: Collection[str] = ()
) -> StoredStudy:
    """A stored study with other settings; `remember` writes them down.

    Args:
        before: the study.
        settings: of the same name.
        trust: code of the user, as module:function, that the settings may name.

    Raises:
        SettingError: a setting that has no meaning.
        TrustError: the settings name code that is not trusted.
    """
    with reading(_path(before.store, settings.stored_name), trust):
        plan = plan_of_study(settings)
    version = version_of(before.store, settings)
    return StoredStudy(settings, version, plan, before.store)


def _chosen(store: Store, name: str | None) -> str:
    """The whole name of a study of a store."""
    names = study_names(store)
    if not names:
        raise StoreError(
            f"{store.root} holds no study; name the folder that `steppe study run` "
            "wrote with --out."
        )
    matching = [each for each in names if each.startswith(name or "")]
    chosen = [name] if name in names else matching
    if not chosen or (name is not None and len(chosen) > 1):
        raise unknown_name("study", name or "", names)
    return max(chosen, key=lambda each: _path(store, each).stat().st_mtime)


def _opened(store: Store, name: str, trust: Collection[str]) -> StoredStudy:
    path = _path(store, name)
    settings, version = _settings(path), int(_record(path)["version"])
    try:
        with reading(path, trust):
            plan = plan_of_study(settings)
    except TrustError as error:
        raise StoreError(str(error)) from None
    except (SettingError, UnknownNameError) as error:
        raise _unusable(path, error) from error
    return StoredStudy(settings, version, plan, store)


def _settings(path: Path) -> StudySettings:
    try:
        return StudySettings.model_validate(_record(path)["settings"])
    except (ValidationError, SettingError, UnknownNameError, TypeError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} cannot be used ({reason_of(error)}); {_FIX}.")


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = read_record(path, _FIX)
    if not isinstance(record.get("version"), int) or "settings" not in record:
        raise StoreError(f"{path} is damaged (no settings of a study); {_FIX}.")
    return record


def _path(store: Store, name: str) -> Path:
    return store.root / FOLDER / f"{name}.json"


def _trials_path(store: Store, name: str) -> Path:
    return _path(store, f"{name}.trials")
