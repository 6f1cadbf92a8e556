"""Settings of a training that change from epoch to epoch, as texts.

"batch_size=multi_step(milestones=(30,), factor=2)" is a schedule of `steppe.schedules`
that is called with the epoch, counted from 0, in place of the step. It starts at the
value of the setting, as that of the learning rate starts at the rate of the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steppe.errors import SettingError, UnknownNameError
from steppe.registry.bounds import Range
from steppe.registry.composed import read_part
from steppe.registry.registry import unknown_name
from steppe.registry.settings_text import called
from steppe.schedules import SCHEDULES, StepSchedule
from steppe_lab.training.lr_schedules import FIRST, parsed, schedules_of_steps

if TYPE_CHECKING:
    from steppe_lab.training.recipe import Recipe

RANGES: Mapping[str, Range] = {
    "batch_size": Range(1.0),
    "weight_decay": Range(0.0),
    "l2": Range(0.0),
}
# A schedule gets its end from the text alone: these settings seldom fall to 0.
_KNOWN = (*FIRST, "steps", "warmup")


def read_over_epochs(texts: Sequence[str]) -> tuple[str, ...]:
    """The texts of settings over epochs, checked, in the order of their names.

    Example:
        >>> read_over_epochs(["batch_size=multi_step( milestones=(3,),factor=2 )"])
        ('batch_size=multi_step(milestones=(3), factor=2.0)',)

    Raises:
        UnknownNameError: no such setting, schedule or argument.
        SettingError: a text of another form, or a setting named twice.
    """
    read: dict[str, str] = {}
    for text in texts:
        name, equals, schedule = (piece.strip() for piece in text.partition("="))
        if not equals:
            raise SettingError(
                "over_epochs takes SETTING=SCHEDULE, as "
                f"batch_size=piecewise((30,),(64,128)), got '{text}'."
            )
        if name not in RANGES:
            error = unknown_name("setting over epochs", name, RANGES)
            raise UnknownNameError(
                f"{str(error).rstrip('.')}; a setting of the method takes a schedule "
                "itself, as sam:rho=linear(0.1,0.02)."
            )
        if name in read:
            raise SettingError(f"over_epochs gives {name} twice; give it once.")
        read[name] = f"{name}={_read(name, schedule)}"
    return tuple(read[name] for name in sorted(read))


def over_epochs(recipe: Recipe, epochs: int | None) -> dict[str, StepSchedule]:
    """Values as functions of the epoch, counted from 0, by setting.

    Args:
        recipe: says which.
        epochs: number of them; None where it is not known, as it follows from them.

    Raises:
        SettingError: an argument out of its range, or one that is needed.
    """
    schedules: dict[str, StepSchedule] = {}
    for each in recipe.over_epochs:
        name, _, text = each.partition("=")
        entry, arguments = parsed(text)
        known = {**dict.fromkeys(FIRST, start_of(recipe, name)), "warmup": 0}
        if epochs is not None:
            known["steps"] = epochs
        elif "steps" in entry.arguments() and "steps" not in arguments:
            raise SettingError(
                f"{entry.name} of {name} needs steps, its length in epochs, where "
                f"--steps ends the training; write {entry.name}(..., steps=...)."
            )
        known = {k: v for k, v in known.items() if k in entry.arguments()}
        try:
            schedule = entry.make(**{**known, **arguments})
        except SettingError as error:
            raise SettingError(f"over_epochs {each}: {error}") from None
        schedules[name] = _Checked(name, schedule)
    return schedules


def check_over_epochs(recipe: Recipe, epochs: int) -> None:
    """Refuse a value out of its range in any epoch.

    Raises:
        SettingError: names the setting, the epoch and the value.
    """
    for schedule in over_epochs(recipe, epochs).values():
        for epoch in range(epochs):
            schedule(epoch)


def start_of(recipe: Recipe, name: str) -> float:
    """The value that a setting over epochs starts at.

    Raises:
        SettingError: a base without that setting.
    """
    if name != "weight_decay":
        return float(getattr(recipe, name))
    settings = recipe.base.settings
    if name not in settings:
        raise SettingError(
            f"weight_decay over epochs needs a base with that setting, got "
            f"{recipe.base.name}; choose another base or leave it out."
        )
    return float(settings[name])


@dataclass(frozen=True)
class _Checked:
    """A schedule of a setting, with its values checked; batches have whole sizes."""

    name: str
    schedule: StepSchedule

    def __call__(self, epoch: int) -> float:
        value = self.schedule(epoch)
        value = round(value) if self.name == "batch_size" else value
        RANGES[self.name].check(f"{self.name} in epoch {epoch + 1}", value)
        return value


def _read(name: str, text: str) -> str:
    canonical, usable = read_part(SCHEDULES, text, _KNOWN), schedules_of_steps()
    if canonical is None or called(canonical)[0] not in usable:
        raise unknown_name(f"schedule of {name}", called(text)[0], usable)
    _, arguments = parsed(canonical)
    taken = [each for each in (*FIRST, "warmup") if each in arguments]
    if taken:
        rule = "has no warm-up" if taken[0] == "warmup" else f"starts at {name} itself"
        raise SettingError(
            f"{name} over epochs {rule}, got {taken[0]} in '{text}'; leave it out, and "
            "write the other arguments by name."
        )
    return canonical.removesuffix("()")
