"""The trials of a study: the product of its levels, as recipes.

Expansion is pure: it reads no data and trains nothing. The id of a trial is that of its
recipe, so that it depends on the settings of the trial alone: not on the order of keys
in a file, and not on the other levels, seeds or measures of the study.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from steppe.errors import SettingError, SteppeError
from steppe.registry.registry import Choice, unknown_name
from steppe_lab.attacks import ATTACKS
from steppe_lab.complaints import reason_of
from steppe_lab.runs.analysis import Analysis
from steppe_lab.runs.attack_settings import ALL, AttackSettings
from steppe_lab.runs.attacking import Attacking, chosen_attacks
from steppe_lab.runs.measure_groups import ungrouped
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.studies.conditions import Condition
from steppe_lab.studies.plan import Plan, Trial
from steppe_lab.studies.settings import AnalysisSettings, StudySettings
from steppe_lab.training.recipe import CHOICES, Recipe

MOST_TRIALS = 1_000_000
ANALYSIS = "analysis"  # the run that measures a network; of a second group "analysis 2"
ATTACK = "attack"  # the run that attacks it
# Columns of a table that no factor may hide.
TAKEN = frozenset(
    {
        *("trial", "run", "parent", "seed", "epochs", "stopped", "parameters"),
        *("packed_with", "best_epoch", "gap"),
    }
)
SET = "_set"  # ends the column of a factor whose own name is taken
_FIELDS = (set(TrainSettings.model_fields) | {"average"}) - {"seed"}


def completed(settings: StudySettings) -> StudySettings:
    """A study with names in place of groups, such as "spectral" or all attacks.

    A store holds studies so: a measure that a family gets later is no part of them.

    Raises:
        SettingError: a group of which nothing is left, or a measure twice.
    """
    groups = [ungrouped(group, ["start"]).measures for group in settings.measures]
    every = settings.attack is not None and settings.attack.attacks == (ALL,)
    if tuple(groups) == settings.measures and not every:
        return settings
    record = {**settings.model_dump(mode="json"), "measures": groups}
    if every:
        record["attack"] = {**record["attack"], "attacks": ATTACKS.names()}
    return StudySettings.model_validate(record)


def plan_of_study(settings: StudySettings) -> Plan:
    """The trials of a study, all points of the grid for the first seed first.

    Args:
        settings: of the study; files to start from are named by their contents.

    Raises:
        SettingError: a setting that has no meaning, no trials, more than a million, or
            two with the same settings.
        UnknownNameError: a name that is none, with the nearest one.
    """
    expansion = _Expansion(settings)
    return Plan(expansion.trials(), Followers(settings))


def factors_of(settings: StudySettings) -> dict[str, str]:
    """The columns of the settings that a study varies, by their names in the study.

    A dotted name has its last word, where no other column has it.
    """
    varied = sorted([*settings.grid, *(key for group in settings.zip for key in group)])
    words = [key.rpartition(".")[2] for key in varied]
    return {
        key: f"{key}{SET}"
        if key in TAKEN
        else (key if _is_taken(word, words) else word)
        for key, word in zip(varied, words, strict=True)
    }


def levels_of(settings: StudySettings) -> dict[str, list[Any]]:
    """Levels of each factor, in the order that the study has them in."""
    columns = factors_of(settings)
    axes = [*({key: each} for key, each in settings.grid.items()), *settings.zip]
    by_key = {key: levels for axis in axes for key, levels in axis.items()}
    return {
        columns[key]: list(dict.fromkeys(map(_plain, by_key[key]))) for key in columns
    }


class Followers:
    """The runs that follow the training of each trial: analyses and attacks.

    There is an analysis for each group of measures. The draws of a measure follow from
    the seed of the training: they are the same for trials that differ in other
    settings, and independent over the seeds. Those of attacks follow from their own
    seed: `steppe attack` makes the same ones.

    Args:
        settings: of the study.

    Raises:
        SettingError: a measure or an attack with a setting out of range.
        UnknownNameError: one that is none.
    """

    def __init__(self, settings: StudySettings) -> None:
        groups = settings.measures or ((),)
        try:
            self._templates = {
                analysis_name(number): _analysis(settings.analysis, group, number)
                for number, group in enumerate(groups, start=1)
                if group or settings.analysis.line_points
            }
            self._attack = settings.attack and _attack(settings.attack)
        except ValidationError as error:
            raise SettingError(f"{reason_of(error)}.") from error

    def __call__(self, trial: Trial, /) -> Mapping[str, BaseModel]:
        """The runs of one network."""
        recipe = trial.recipe
        records: dict[str, BaseModel] = {
            name: template.model_copy(
                update={
                    "training": trial.run,
                    "seed": recipe.seed,
                    "code": {**template.code, **recipe.code},
                }
            )
            for name, template in self._templates.items()
        }
        if self._attack is not None:
            own = {"training": trial.run, "code": recipe.code}
            records[ATTACK] = self._attack.model_copy(update=own)
        return records


def analysis_name(number: int) -> str:
    """The plan's word for the analysis of a group of measures, counted from 1."""
    return ANALYSIS if number == 1 else f"{ANALYSIS} {number}"


def _analysis(how: AnalysisSettings, group: tuple[str, ...], number: int) -> Analysis:
    """An analysis without a network."""
    return Analysis.model_validate(
        {
            "training": "",
            "measures": group,
            "samples": how.samples,
            "mode": how.mode,
            "batch_size": how.batch_size,
            # A line is walked once, with the first group.
            "line_points": how.line_points if number == 1 else 0,
            "line_radius": how.line_radius,
        }
    )


def _attack(settings: AttackSettings) -> Attacking:
    """Attacks without a network."""
    return Attacking(
        training="",
        attacks=chosen_attacks(settings.attacks),
        epsilons=settings.epsilons,
        samples=settings.samples,
        part=settings.part,
        protocol=settings.protocol,
        bounds=settings.bounds,
        seed=settings.seed,
    )


class _Expansion:
    """Trials of a study."""

    def __init__(self, settings: StudySettings) -> None:
        self._settings = settings
        self._columns = factors_of(settings)
        self._where = tuple(map(Condition, settings.where))
        known = {*self._columns, *self._columns.values(), "seed"}
        for condition in self._where:
            condition.check_names(known, "factor")
        for key in (*settings.base, *self._columns):
            _check_key(key)

    def trials(self) -> list[Trial]:
        """All of them, in their order."""
        self._check_count()
        points = list(self._points())
        recipes: dict[int, Recipe] = {}
        trials = []
        for seed in self._settings.seeds:
            for number, point in enumerate(points):
                if not self._is_in(point, seed):
                    continue
                factors = {self._columns[k]: _plain(v) for k, v in point.items()}
                name = ", ".join(filter(None, (_said(factors), f"seed {seed}")))
                if number not in recipes:
                    recipes[number] = self._recipe(point, name)
                recipe = recipes[number].model_copy(update={"seed": seed})
                trials.append(Trial(name, recipe, factors))
        if not trials:
            where = " and ".join(self._settings.where)
            raise SettingError(
                f"where must leave a trial, got none for {where}; change a condition."
            )
        return trials

    @cached_property
    def _axes(self) -> list[list[dict[str, Any]]]:
        """Points along each axis, in the order of the names of the settings."""
        grid = [
            [{key: level} for level in self._settings.grid[key]]
            for key in sorted(self._settings.grid)
        ]
        together = [
            [dict(zip(group, levels, strict=True)) for levels in zip(*group.values())]
            for group in sorted(self._settings.zip, key=sorted)
        ]
        return grid + together

    def _check_count(self) -> None:
        seeds, count = len(self._settings.seeds), self._settings.trials
        if count > MOST_TRIALS:
            raise SettingError(
                f"a study must have at most {MOST_TRIALS:,} trials before where, got "
                f"{count:,} with {seeds:,} seeds; give fewer levels."
            )

    def _points(self) -> Iterator[dict[str, Any]]:
        for parts in itertools.product(*self._axes):
            point = {key: value for part in parts for key, value in part.items()}
            yield {key: point[key] for key in self._columns}

    def _is_in(self, point: Mapping[str, Any], seed: int) -> bool:
        plain = {key: _plain(value) for key, value in point.items()}
        named = {self._columns[key]: value for key, value in plain.items()}
        values = {**plain, **named, "seed": seed}
        return all(condition.holds(values) for condition in self._where)

    def _recipe(self, point: Mapping[str, Any], name: str) -> Recipe:
        fields = {**self._settings.base, **point}
        try:
            return recipe_of_fields(fields)
        except ValidationError as error:
            raise SettingError(f"trial {name}: {reason_of(error)}.") from error
        except SteppeError as error:
            raise type(error)(f"trial {name}: {error}") from error


def recipe_of_fields(fields: Mapping[str, Any]) -> Recipe:
    """The recipe of fields by name, as `steppe train` has them; seed 0.

    A dotted name sets one setting of a choice after the others: `base.lr` that of the
    optimizer that takes the steps. One that is None leaves the choice as it is.

    Raises:
        ValidationError: of pydantic; a value of another type or range.
        SettingError: a setting that has no meaning.
    """
    settings = _undotted(fields)
    recipe = recipe_of(settings, settings.optimizer, 0, settings.track)
    changed: dict[str, Any] = {}
    for key, value in fields.items():
        head, dot, setting = key.partition(".")
        if not dot or value is None:
            continue
        choice: Choice | None = changed.get(head) or getattr(recipe, head)
        if choice is None:
            raise SettingError(
                f"{key} is {value!r}, and this trial has no {head}; give null where "
                "there is none, or vary them together with zip."
            )
        setting = setting.replace("-", "_")
        asked = {**choice.settings, setting: _as_setting(value)}
        changed[head] = CHOICES[head].choose(choice.name, asked)
    if not changed:
        return recipe
    return Recipe.model_validate({**dict(recipe), **changed})


def train_settings(fields: Mapping[str, Any]) -> TrainSettings:
    """The settings of `steppe train` that give the recipe of some fields.

    Args:
        fields: see `recipe_of_fields`.
    """
    dotted = {key.partition(".")[0] for key in fields if "." in key}
    if not dotted:
        return _undotted(fields)
    recipe = recipe_of_fields(fields)
    texts = {head: str(getattr(recipe, head)) for head in dotted - {"average"}}
    if recipe.optimizer is None:
        texts["optimizer"] = recipe.base.name
    if recipe.average is not None:
        texts["optimizer"] = f"{recipe.optimizer or recipe.base.name}+{recipe.average}"
    return _undotted(fields).model_copy(update=texts)


def _undotted(fields: Mapping[str, Any]) -> TrainSettings:
    """Settings of fields, without those of one setting of a choice."""
    plain = {key: value for key, value in fields.items() if "." not in key}
    average = plain.pop("average", None)
    base = plain.get("base", TrainSettings.model_fields["base"].default)
    if "optimizer" in plain and plain["optimizer"] is None:
        plain["optimizer"] = str(base).partition(":")[0]
    if average is not None:
        text = plain.get("optimizer", TrainSettings.model_fields["optimizer"].default)
        plain["optimizer"] = f"{text}+{average}"
    return TrainSettings.model_validate(plain)


def shown_level(level: Any) -> str:
    """A level as a study file has it."""
    if level is None:
        return "null"
    return str(level).lower() if isinstance(level, bool) else str(level)


def _check_key(key: str) -> None:
    """Refuse the name of a setting that no trial has."""
    head, dot, setting = key.partition(".")
    if dot and (head not in CHOICES or not setting.isidentifier()):
        raise SettingError(
            f"{key} is no setting of a choice; before the dot there may be "
            f"{', '.join(CHOICES)}, and one name after it."
        )
    if key == "seed":
        raise SettingError("seed is no factor; write seeds: with their number or list.")
    if key == "loss":
        raise SettingError(
            "a trial has no setting 'loss': networks are trained by the loss of the "
            "task that the data set names, with label_smoothing and l2; a loss of "
            "yours takes a loop of yours, and `steppe measure --loss` measures by it."
        )
    if not dot and key not in _FIELDS:
        raise unknown_name("setting of a trial", key, _FIELDS)


def _is_taken(word: str, words: list[str]) -> bool:
    scored = word.startswith(("train_", "test_", "best_"))
    return words.count(word) > 1 or word in TAKEN or scored


def _as_setting(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A level as a table has it: a number, text, truth value or None."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value)


def _said(factors: Mapping[str, Any]) -> str:
    """Factors of a trial in words; names of methods speak for themselves."""
    return " ".join(
        str(value)
        if name in CHOICES and value is not None
        else f"{name.removesuffix(SET)}={shown_level(value)}"
        for name, value in factors.items()
    )
