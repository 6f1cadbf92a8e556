"""The recipe of a trained network: everything its weights follow from.

A recipe is a frozen record; texts such as "sam:rho=0.1" are accepted where a choice is
due and are checked and completed, so that a stored recipe says every setting.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator

from steppe.averaging import AVERAGES
from steppe.bases import BASES
from steppe.errors import ChangedCodeError, SettingError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import Choice, Registry, is_code, one_line
from steppe.schedules import SCHEDULES
from steppe_lab.augmentation import AUGMENTATIONS
from steppe_lab.datasets import DATASETS, Selection
from steppe_lab.models import MODELS
from steppe_lab.training.augmenting import read_augmentations
from steppe_lab.training.settings import SEEDS, SHA256, PlainSettings
from steppe_lab.training.tracking import TRACKERS

CHOICES: dict[str, Registry[Any]] = {
    "data": DATASETS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "base": BASES,
    "average": AVERAGES,
    "track": TRACKERS,
}


class Recipe(PlainSettings):
    """Settings of one training run.

    Args:
        data: name of a data set.
        model: name of a model, with settings.
        optimizer: a method that wraps the base, or None for the base alone.
        base: the optimizer that takes the steps.
        average: of the weights along training, which the trained network is then; None
            for the weights after the last step.
        track: what is followed along training; None for nothing.
        augment: random changes of training images, in their order.
        processes: that train it together.
        seed: of the initial weights, the order of samples, their augmentation and the
            optimizer's noise.
        code: digests of the source files of choices that are code of the user, by
            name; filled in, and compared where they are given.

    The plain settings are those of `PlainSettings`.
    """

    always_recorded: ClassVar[frozenset[str]] = PlainSettings.always_recorded | {
        *("data", "model", "base", "optimizer", "seed", "code"),
    }

    data: Choice
    model: Choice
    base: Choice
    optimizer: Choice | None = None
    average: Choice | None = None
    track: Choice | None = None
    augment: tuple[Choice, ...] = ()
    processes: int = Field(default=1, ge=1, le=2**20)
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    code: dict[str, str] = Field(default_factory=dict)

    @field_validator(*CHOICES, mode="before")
    @classmethod
    def _choice(cls, value: Any, info: Any) -> Any:
        registry = CHOICES[info.field_name]
        if isinstance(value, str):
            return registry.parse(value)
        if isinstance(value, Choice):
            return registry.choose(value.name, value.settings)
        if isinstance(value, Mapping):
            return registry.choose(value["name"], value["settings"])
        return value

    @field_validator("augment", mode="before")
    @classmethod
    def _augmentations(cls, value: Any) -> tuple[Choice, ...]:
        return read_augmentations(value)

    @field_validator("start_from")
    @classmethod
    def _by_contents(cls, value: str) -> str:
        """Where a file lies is nothing that weights follow from."""
        if value and not re.fullmatch(f"{SHA256}[0-9a-f]{{64}}", value):
            raise SettingError(
                f"a recipe names the file to start from as {SHA256} and 64 digits, got "
                f"'{value}'; `steppe train --from` does it for a file."
            )
        return value

    @field_validator("optimizer")
    @classmethod
    def _without_missing_parts(cls, value: Choice | None) -> Choice | None:
        """`geometry=None` is left out, so that ids of older runs stay."""
        if value is None or value.settings.get("geometry", "") is not None:
            return value
        kept = {k: v for k, v in value.settings.items() if k != "geometry"}
        return Choice(value.name, kept)

    @field_validator("average")
    @classmethod
    def _validated(cls, value: Choice | None, info: Any) -> Choice | None:
        """Refuse an average that would choose by the test loss."""
        judged_on = info.data.get("held_out", "validation")
        if value and AVERAGES[value.name].spec.validates and judged_on == "test":
            raise SettingError(
                f"{value.name} chooses its steps by a validation loss, which must not "
                "be that of the test set; hold out training samples with --held-out "
                "validation."
            )
        return value

    @model_validator(mode="after")
    def _settings_in_range(self) -> Recipe:
        said = (self.train_samples, self.train_fraction, self.subset)
        if all(each is None for each in said):
            default = DATASETS[self.data.name].spec.train_samples
            object.__setattr__(self, "train_samples", default)
        _ = self.selection  # which checks what its settings must be together
        check_device(self.device)
        chosen = [(kind, getattr(self, kind)) for kind in CHOICES]
        names: list[tuple[Registry[Any], str]] = [
            (CHOICES[kind], choice.name) for kind, choice in chosen if choice
        ]
        names += [(AUGMENTATIONS, choice.name) for choice in self.augment]
        names.append((SCHEDULES, self.lr_schedule))
        object.__setattr__(self, "code", code_of(names, self.code))
        return self

    @property
    def label(self) -> str:
        """Name of the optimizer, as in tables."""
        return self.optimizer.name if self.optimizer else self.base.name

    @property
    def selection(self) -> Selection:
        """Which samples, with which labels and noise."""
        named = {field.name for field in fields(Selection)} - {"seed"}
        return Selection(
            **{name: getattr(self, name) for name in named}, seed=self.data_seed
        )

    @property
    def reads_files(self) -> bool:
        """Whether the data can be other data next time."""
        return DATASETS[self.data.name].spec.needs_files


def code_of(
    names: Iterable[tuple[Registry[Any], str]], known: Mapping[str, str]
) -> dict[str, str]:
    """Digests of the source files of those names that are code of the user.

    Args:
        names: registries and names in them.
        known: digests from when the code was used before; empty for the first time.

    Raises:
        SettingError: the code is other code now.
    """
    digests = {
        name: registry[name].source_digest()
        for registry, name in names
        if is_code(name)
    }
    for name, before in known.items():
        if digests.get(name) != before:
            raise ChangedCodeError(
                f"the source of {name} is not what it was (SHA-256 "
                f"{digests.get(name, '')[:8]} now, {before[:8]} then); "
                "restore it, or train again with what it is now."
            )
    return digests


def check_device(device: str) -> None:
    """Try a small sum there.

    Raises:
        SettingError: torch cannot use this device.
    """
    try:
        (torch.ones(1, device=device) + 1).item()
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"device must be one that torch can use, got '{device}' "
            f"({one_line(error)})."
        ) from None
