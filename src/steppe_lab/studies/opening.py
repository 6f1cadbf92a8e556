"""The study that a command names: from a file, a function, a store, or built in."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

from steppe.registry.registry import is_code, reading, unknown_name
from steppe_lab.analysis.starts import with_start
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.store.store import Store
from steppe_lab.studies.expansion import completed, plan_of_study
from steppe_lab.studies.files import (
    built_in_studies,
    is_file,
    naming,
    read_study,
)
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.stored import (
    StoredStudy,
    open_study,
    study_names,
    version_of,
    versions,
)

START, OPTIMIZER = "start_from", "with_optimizer"


def named_study(
    store: Store, named: str, *, scale: str = "", trust: Collection[str] = ()
) -> StoredStudy:
    """The study that a command goes on with.

    A study that a store remembers goes on as it was last, extensions included, unless
    its file says now what no version of it has said: then the file counts, and all
    results of before stay. Measures that a file adds are a group of their own, so that
    no other measure is computed again.

    Args:
        store: of its runs.
        named: a YAML file, module:function, the name of a stored or a built-in study.
        scale: one of its scales; "" for the study as it is.
        trust: code of the user, as module:function, that a file may name.

    Raises:
        SettingError: a mistake in the file.
        UnknownNameError: no such study.
        TrustError: the file names code that is not trusted.
        StoreError: stored settings are damaged.
    """
    stored_name = f"{named}@{scale}" if scale else named
    from_file = is_file(named)
    given = from_file or is_code(named) or named.replace("-", "_") in built_in_studies()
    if not given and stored_name in study_names(store):
        return open_study(store, stored_name, trust=trust)
    if not given:
        known = {*study_names(store), *built_in_studies()}
        raise unknown_name("study", stored_name, known)
    inside = reading(named, trust) if from_file else contextlib.nullcontext()
    with inside, naming(named):
        settings = with_starts(completed(read_study(named, scale=scale)), store)
        settings = _gone_on_with(settings, versions(store, settings.stored_name))
        plan = plan_of_study(settings)
    return StoredStudy(settings, version_of(store, settings), plan, store)


def with_starts(settings: StudySettings, store: Store) -> StudySettings:
    """A study whose files to start from are named by their contents.

    Raises:
        CheckpointError: no file, one without weights, or without an optimizer where
            its state is asked for.
    """
    record = settings.model_dump(mode="json")
    places = [record["base"], record["grid"], *record["zip"]]
    asked = [place[OPTIMIZER] for place in places if OPTIMIZER in place]
    with_state = any(True in each if isinstance(each, list) else each for each in asked)

    def named(start: Any) -> Any:
        if not isinstance(start, str) or not start:
            return start
        one = TrainSettings(start_from=start, with_optimizer=with_state)
        return with_start(one, store).start_from

    for place in places:
        if START in place:
            start = place[START]
            each = isinstance(start, list)
            place[START] = [named(s) for s in start] if each else named(start)
    return StudySettings.model_validate(record)


def regrouped(settings: StudySettings, before: StudySettings) -> StudySettings:
    """A study with its measures in the groups that they were first asked in.

    Groups of which a measure is gone are made anew, without it.
    """
    wanted = [text for group in settings.measures for text in group]
    kept = [group for group in before.measures if set(group) <= set(wanted)]
    known = {text for group in kept for text in group}
    added = [[t for t in group if t not in known] for group in settings.measures]
    groups = [*map(list, kept), *filter(None, added)]
    record = settings.model_dump(mode="json")
    return StudySettings.model_validate({**record, "measures": groups})


def _gone_on_with(
    settings: StudySettings, before: list[StudySettings]
) -> StudySettings:
    """The newest version, unless the study differs from all of them."""
    if not before:
        return settings
    if any(_without_groups(each) == _without_groups(settings) for each in before):
        return before[-1]
    return regrouped(settings, before[-1])


def _without_groups(settings: StudySettings) -> Any:
    """A study as it is asked for, however its measures were grouped over time."""
    record = settings.model_dump(mode="json")
    texts = sorted(text for group in settings.measures for text in group)
    return {**record, "measures": texts}
