"""Some trials of a plan: those with certain levels, and the first so many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name
from steppe_lab.studies.expansion import factors_of, shown_level
from steppe_lab.studies.plan import Plan, Trial
from steppe_lab.studies.settings import StudySettings


def selected(
    plan: Plan,
    settings: StudySettings,
    only: Iterable[str] = (),
    limit: int | None = None,
) -> Plan:
    """The trials of a plan with the given levels, the first so many of them.

    Args:
        plan: of the study.
        settings: of the study, for the names of its factors.
        only: texts FACTOR=LEVEL; `seed` is a factor here. Of one factor, either of its
            levels; of several, all.
        limit: trials at most; None for all.

    Raises:
        UnknownNameError: no such factor.
        SettingError: a text of another form, or no trial with such levels.
    """
    asked = _asked(only, settings)
    trials = [
        trial
        for trial in plan.values()
        if all(_is_among(_levels(trial)[name], texts) for name, texts in asked.items())
    ]
    if not trials:
        for name, texts in asked.items():
            levels = dict.fromkeys(shown_level(_levels(t)[name]) for t in plan.values())
            if not any(_is_among(level, texts) for level in levels):
                raise SettingError(
                    f"no trial has {name}={' or '.join(texts)}; its levels are "
                    f"{', '.join(levels)}."
                )
        raise SettingError("no trial has all of these levels; leave one --only out.")
    return plan.of(trials if limit is None else trials[:limit])


def _asked(only: Iterable[str], settings: StudySettings) -> dict[str, list[str]]:
    columns = factors_of(settings)
    known = {**columns, **{name: name for name in columns.values()}, "seed": "seed"}
    asked: dict[str, list[str]] = {}
    for text in only:
        name, equals, level = text.partition("=")
        if not equals:
            raise SettingError(f"--only takes FACTOR=LEVEL, got '{text}'.")
        if name not in known:
            raise unknown_name("factor", name, {*columns.values(), "seed"})
        asked.setdefault(known[name], []).append(level)
    return asked


def _levels(trial: Trial) -> Mapping[str, Any]:
    return {**trial.factors, "seed": trial.recipe.seed}


def _is_among(level: Any, texts: list[str]) -> bool:
    return any(shown_level(level) == text or _is_number(level, text) for text in texts)


def _is_number(level: Any, text: str) -> bool:
    """Whether a text says a number, such as 1e-3 for 0.001."""
    if isinstance(level, bool) or not isinstance(level, int | float):
        return False
    try:
        return float(text) == level
    except ValueError:
        return False
