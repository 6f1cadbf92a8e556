"""Trials of a study as its store remembers them, where code of the user is in them.

    studies/NAME.trials.json    of the newest version

Recipes are complete only with the defaults that stand in the code. To read results
their stored settings are enough, so that nothing of the user is imported for a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steppe.registry.registry import Choice, is_code
from steppe_lab.store.store import run_id
from steppe_lab.studies.collecting import Column, columns_of
from steppe_lab.studies.plan import Plan, Trial
from steppe_lab.studies.settings import StudySettings
from steppe_lab.training.recipe import CHOICES, Recipe


def record_of(
    plan: Plan, settings: StudySettings, version: int
) -> dict[str, Any] | None:
    """The trials of a study and its columns as JSON; None where no code is in them.

    Args:
        plan: all trials of the study.
        settings: of the study.
        version: of its settings.
    """
    if not plan.code:
        return None
    columns = columns_of(settings.measures)
    trials = [
        {
            "name": trial.name,
            "factors": dict(trial.factors),
            "config": trial.config,
            "followers": plan.followers(run),
        }
        for run, trial in plan.items()
    ]
    named = [[each.name, each.follower, each.key] for each in columns]
    return {"version": version, "columns": named, "trials": trials}


def plan_of_record(record: Mapping[str, Any]) -> tuple[Plan, Sequence[Column]]:
    """The trials and columns that `record_of` wrote.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: it is no such record.
    """
    trials: list[Trial] = []
    followers: dict[str, dict[str, dict[str, Any]]] = {}
    for each in record["trials"]:
        config = each["config"]
        recipe = _recipe(config)
        trials.append(Trial(each["name"], recipe, each["factors"], config))
        followers[run_id(config)] = each["followers"]
    plan = Plan(trials, lambda trial: followers[trial.run])
    return plan, [Column(*each) for each in record["columns"]]


def _recipe(config: Mapping[str, Any]) -> Recipe:
    """The recipe of a training without a check: it was checked when it was stored."""
    fields = {name: _plain(value) for name, value in config.items() if name != "kind"}
    chosen = {name: _choice(fields.get(name)) for name in CHOICES}
    augment = tuple(map(_choice, fields.get("augment", ())))
    optimizer = chosen["optimizer"]
    if optimizer is not None and is_code(optimizer.name):
        chosen["optimizer"] = None  # facts for costs stand in the code, and not here
    return Recipe.model_construct(**{**fields, **chosen, "augment": augment})


def _choice(value: Any) -> Choice | None:
    return None if value is None else Choice(value["name"], value["settings"])


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
