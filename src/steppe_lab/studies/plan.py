"""The plan of a study: its trials, and the runs that follow each training.

A plan is data: making one reads no samples, trains nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from pydantic import BaseModel

from steppe.errors import SettingError
from steppe_lab.runs.abstract import config_of
from steppe_lab.store.store import run_id
from steppe_lab.training.recipe import Recipe


@dataclass(frozen=True)
class Trial:
    """One network of a study.

    Args:
        name: in messages, such as "lr=0.1 width=4, seed 2".
        recipe: how it is trained.
        factors: the settings that the study varies, by name, as plain values; the
            seed stands in the recipe alone.
        stored: settings of the training as a store holds them; None for those of the
            recipe.
    """

    name: str
    recipe: Recipe
    factors: Mapping[str, Any] = field(default_factory=dict)
    stored: dict[str, Any] | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """Settings of the training run as the store holds them."""
        return config_of(self.recipe) if self.stored is None else self.stored

    @cached_property
    def run(self) -> str:
        """Id of the training run."""
        return run_id(self.config)


class Follow(Protocol):
    """The runs that follow the training of a trial."""

    def __call__(self, trial: Trial, /) -> Mapping[str, BaseModel | dict[str, Any]]:
        """Records of those runs, by a word for each, such as "analysis".

        Settings as a store holds them stand for a record.
        """


def nothing(_: Trial, /) -> Mapping[str, BaseModel]:
    """No runs, for trials that are trained alone."""
    return {}


class Plan(Mapping[str, Trial]):
    """Trials by the id of their training, in the order they are trained in.

    Args:
        trials: of the study; two with the same settings are a mistake.
        follow: the runs that follow each training.

    Raises:
        SettingError: no trials, or two with the same settings.
    """

    def __init__(self, trials: list[Trial], follow: Follow = nothing) -> None:
        self._trials: dict[str, Trial] = {}
        self._follow = follow
        for trial in trials:
            before = self._trials.get(trial.run)
            if before is not None:
                raise SettingError(
                    f"trials must differ, but '{before.name}' and '{trial.name}' have "
                    "the same settings; leave one of them out."
                )
            self._trials[trial.run] = trial
        if not trials:
            raise SettingError("a study needs at least one trial, got none.")

    def __getitem__(self, run: str) -> Trial:
        return self._trials[run]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trials)

    def __len__(self) -> int:
        return len(self._trials)

    def of(self, trials: list[Trial]) -> Plan:
        """The plan of some of its trials, with the same runs after each."""
        return Plan(trials, self._follow)

    def also(self, follow: Follow) -> Plan:
        """The plan with further runs after each training."""
        before = self._follow

        def both(trial: Trial) -> Mapping[str, BaseModel | dict[str, Any]]:
            return {**before(trial), **follow(trial)}

        return Plan(list(self.values()), both)

    def followers(self, run: str) -> dict[str, dict[str, Any]]:
        """Settings of the runs that follow a training, as the store holds them."""
        records = self._follow(self._trials[run])
        return {
            name: record if isinstance(record, dict) else config_of(record)
            for name, record in records.items()
        }

    @cached_property
    def code(self) -> frozenset[str]:
        """Code of the user that the trials name, as module:function."""
        named = {name for trial in self.values() for name in trial.recipe.code}
        first = next(iter(self.values()))
        for record in self._follow(first).values():
            named |= set(getattr(record, "code", {}))
        return frozenset(named)


def data_of(recipe: Recipe) -> str:
    """A text that is equal for recipes with the same samples."""
    return f"{recipe.data} {recipe.selection}"
