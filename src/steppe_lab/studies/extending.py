"""A study with more seeds, levels or measures, or longer trainings.

An extension is a new version of the settings: the ids of all trials and analyses that
were there before stay, so that nothing of them is computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from steppe.errors import SettingError, UsageError
from steppe.registry.registry import unknown_name
from steppe.registry.settings_text import pieces
from steppe_lab.studies.expansion import completed, factors_of
from steppe_lab.studies.files import read_scalar
from steppe_lab.studies.settings import StudySettings
from steppe_lab.training.recipe import CHOICES

USUAL = 30  # epochs of a study that says nothing of them


def extended(
    settings: StudySettings,
    *,
    seeds: int | None = None,
    levels: Iterable[str] = (),
    measures: Sequence[str] = (),
    epochs: int | None = None,
) -> StudySettings:
    """The settings of a study with more of something.

    Args:
        settings: of the study.
        seeds: seeds 0 to this, itself left out, beside those that there are.
        levels: texts FACTOR=LEVEL,LEVEL; of a factor of whole methods, such as
            `optimizer`, a text is one level.
        measures: further ones, which become a group of their own; those that there are
            already add nothing.
        epochs: of longer trainings.

    Raises:
        UsageError: nothing is asked for.
        SettingError: a value that the study refuses, or that is no extension.
        UnknownNameError: a factor that the study does not vary.
    """
    levels = tuple(levels)
    if seeds is None and epochs is None and not levels and not measures:
        raise UsageError(
            "an extension needs something to add; give --seeds, --levels, --measures "
            "or --epochs."
        )
    record = settings.model_dump(mode="json")
    if seeds is not None:
        record["seeds"] = list(dict.fromkeys([*settings.seeds, *range(seeds)]))
        if len(record["seeds"]) == len(settings.seeds):
            raise SettingError(
                f"seeds must be more than the {len(settings.seeds)} of the study, got "
                f"{seeds}; give a larger number."
            )
    for text in levels:
        key, added = _levels(text, settings)
        known = record["grid"][key]
        record["grid"][key] = [*known, *(each for each in added if each not in known)]
    if measures:
        known = {text for group in settings.measures for text in group}
        group = [text for text in dict.fromkeys(measures) if text not in known]
        record["measures"] = [*record["measures"], *([group] if group else [])]
    if epochs is not None:
        record["base"] = _longer(settings, epochs)
    return completed(StudySettings.model_validate(record))


def _levels(text: str, settings: StudySettings) -> tuple[str, list[Any]]:
    """The setting that levels are of, by its name in the study, and the levels."""
    name, equals, values = text.partition("=")
    columns = factors_of(settings)
    by_name = {
        **{column: key for key, column in columns.items()},
        **{k: k for k in columns},
    }
    if not equals or not values:
        raise SettingError(f"--levels takes FACTOR=LEVEL,LEVEL, got '{text}'.")
    if name not in by_name:
        raise unknown_name("factor of the study", name, columns.values())
    key = by_name[name]
    if key not in settings.grid:
        raise SettingError(
            f"{name} varies together with other settings, which need levels too; add "
            "them to zip in the file of the study, and run it."
        )
    whole = key in CHOICES or key in ("augment", "lr_schedule")
    return key, [read_scalar(each) for each in ([values] if whole else pieces(values))]


def _longer(settings: StudySettings, epochs: int) -> dict[str, Any]:
    varied = {*settings.grid, *(key for group in settings.zip for key in group)}
    if {"epochs", "steps"} & varied or "steps" in settings.base:
        raise SettingError(
            "--epochs is for a study with one number of epochs; add a level with "
            "--levels, or change the file of the study."
        )
    before = settings.base.get("epochs", USUAL)
    if epochs <= before:
        raise SettingError(
            f"epochs must be more than the {before} of the study, got {epochs}; give a "
            "larger number."
        )
    return {**settings.base, "epochs": epochs}
