"""Longer trainings of a study, which begin where the shorter ones ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steppe.errors import UsageError
from steppe_lab.runs.lengthening import lengthen, why_not_longer
from steppe_lab.runs.training import is_whole
from steppe_lab.store.json_files import canonical_json
from steppe_lab.studies.plan import Plan, Trial
from steppe_lab.studies.stored import StoredStudy
from steppe_lab.training.recipe import Recipe


def longer_trainings(
    before: StoredStudy, after: Plan, *, anew: bool = False
) -> Callable[[], None]:
    """A function that lets longer trainings go on from those of a study.

    Args:
        before: the study with the shorter trainings; those that are not finished are
            not gone on from.
        after: trials of the same factors and seeds with more epochs.
        anew: train from the beginning where a training cannot go on.

    Raises:
        UsageError: a training cannot go on, and `anew` is not asked for.
    """
    shorter = {_place(trial): trial for trial in before.plan.values()}
    pairs: list[tuple[Recipe, Recipe]] = []
    for trial in after.values():
        short = shorter.get(_place(trial))
        if short is None or short.recipe.epochs >= trial.recipe.epochs:
            continue
        if not is_whole(before.store, short.run):
            continue
        recipe = short.recipe
        why = why_not_longer(before.store, recipe, trial.recipe)
        if why and not anew:
            raise UsageError(
                f"{trial.name} cannot go on from {recipe.epochs} to "
                f"{trial.recipe.epochs} epochs: {why}; give --anew to train from the "
                "beginning, or start runs of their own from RUN@last."
            )
        if not why:
            pairs.append((recipe, trial.recipe))

    def begin() -> None:
        for recipe, longer in pairs:
            lengthen(before.store, recipe, longer)

    return begin


def _place(trial: Trial) -> Any:
    """Factors and seed of a trial."""
    return canonical_json([dict(trial.factors), trial.recipe.seed])
