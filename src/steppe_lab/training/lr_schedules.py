"""Schedules of the learning rate as texts, with times in epochs.

Every schedule of `steppe.schedules` that follows the step serves. It starts at the
learning rate of the base, is as long as the training, and ends at 0 where the text does
not give its `end`: "cosine", "linear(end=0.01)", "multi_step(milestones=(100, 120))".
`piecewise` and a function of the user, "module:function", give the rates themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steppe.errors import SettingError
from steppe.registry.composed import read_part
from steppe.registry.registry import Entry, is_code, one_line, unknown_name
from steppe.registry.settings_text import called, convert
from steppe.schedules import SCHEDULES, StepSchedule, Warmup
from steppe_lab.training.plateau import LR_RULES, read_plateau

FIRST = ("start", "value")  # arguments that are the learning rate of the base
KNOWN = (*FIRST, "end", "steps", "warmup")


def read_lr_schedule(text: str) -> str:
    """The text of a schedule with its names and types checked; code is imported.

    Example:
        >>> read_lr_schedule("cosine()"), read_lr_schedule("linear(end=0.010)")
        ('cosine', 'linear(end=0.01)')

    Raises:
        UnknownNameError: no schedule or argument of that name.
        SettingError: an argument of the wrong type, or one that the training gives.
    """
    if is_code(text):
        return SCHEDULES[text].name
    if (rule := read_plateau(text)) is not None:
        return rule
    canonical = read_part(SCHEDULES, text, KNOWN)
    usable = [*schedules_of_steps(), *LR_RULES.names()]
    if canonical is None or called(canonical)[0] not in usable:
        raise unknown_name("lr schedule", called(text)[0], usable)
    entry, arguments = parsed(canonical)
    taken = [name for name in (*FIRST, "warmup") if name in arguments]
    if taken:
        source = "warmup_epochs" if taken[0] == "warmup" else "the lr of the base"
        raise SettingError(
            f"{taken[0]} of {entry.name} is {source} in an lr schedule, got '{text}'; "
            f"leave it out, and write the other arguments by name."
        )
    # Without its parentheses, as the records of trainings have always had it.
    return canonical.removesuffix("()")


def make_lr_schedule(
    text: str,
    lr: float,
    *,
    steps: int,
    step_at: Callable[[float], int],
    warmup: int,
) -> StepSchedule:
    """The learning rate as a function of the step.

    Args:
        text: as `read_lr_schedule` gives it.
        lr: of the base.
        steps: of the training.
        step_at: number of steps in some epochs, which the text gives times in.
        warmup: steps of the warm-up.

    Raises:
        SettingError: an argument out of its range, or a rate below 0.
    """
    if is_code(text):
        own = _OwnRates(text, SCHEDULES[text].make)
        _check_rates(own, text, (0, warmup, steps - 1))
        return Warmup(own, warmup) if warmup else own
    if read_plateau(text) is not None:  # drops are on top of it
        text = "constant"
    entry, written = parsed(text)
    times = {
        name: _times(written[name], step_at)
        for name in entry.spec.times
        if name in written
    }
    arguments = {**written, **times}
    training: Mapping[str, Any] = {
        **dict.fromkeys(FIRST, lr),
        "end": 0.0,
        "steps": steps,
        "warmup": warmup,
    }
    known = {k: v for k, v in training.items() if k in entry.arguments()}
    try:
        # With its times as written first: a refusal then names epochs, not steps.
        cold = {k: 0 if k == "warmup" else v for k, v in known.items()}
        entry.make(**{**cold, **written})
        schedule = entry.make(**{**known, **arguments})
    except SettingError as error:
        raise SettingError(f"lr_schedule {text}: {error}") from None
    if warmup and "warmup" not in known:
        schedule = Warmup(schedule, warmup)
    changes = _flat(list(times.values()))
    _check_rates(schedule, text, (0, warmup, steps - 1, *changes))
    return schedule  # type: ignore[no-any-return]


def highest_rate(text: str, lr: float) -> float:
    """The highest rate of a schedule of this text, for settings that follow the rate.

    A function of the user is taken to keep below the lr of the base.
    """
    if is_code(text) or read_plateau(text) is not None:
        return lr
    _, arguments = parsed(text)
    return float(max(arguments.get("values", (lr,))))


@dataclass(frozen=True)
class _OwnRates:
    """A function of the user from the step to the learning rate, checked as it goes."""

    name: str
    function: Callable[[int], Any]

    def __call__(self, step: int) -> float:
        try:
            rate = float(self.function(step))
        except (Exception, SystemExit) as error:
            raise SettingError(
                f"lr schedule {self.name} failed at step {step} ({one_line(error)}); "
                "a schedule is a function of the step that gives a number."
            ) from error
        if not 0 <= rate < math.inf:
            raise SettingError(
                f"the learning rate must be >= 0 and finite, got {rate:g} at step "
                f"{step} from {self.name}; change that function."
            )
        return rate


def schedules_of_steps() -> list[str]:
    """Names of the schedules that follow the step alone."""
    return [each.name for each in SCHEDULES if not hasattr(each.make, "of_group")]


def parsed(text: str) -> tuple[Entry[Any], dict[str, Any]]:
    """A schedule and the arguments in its text, of the types of its signature."""
    name, placed, named = called(text)
    entry = SCHEDULES[name]
    kinds = entry.arguments()
    return entry, {
        key: convert(value, kinds[key].annotation, f"{key} of {name}")
        for key, value in {**dict(zip(kinds, placed)), **named}.items()
    }


def _times(value: Any, step_at: Callable[[float], int]) -> Any:
    return tuple(map(step_at, value)) if isinstance(value, tuple) else step_at(value)


def _flat(values: list[Any]) -> list[int]:
    return [v for each in values for v in (each if isinstance(each, tuple) else [each])]


def _check_rates(schedule: StepSchedule, text: str, steps: tuple[int, ...]) -> None:
    """Refuse a rate below 0, with which torch would climb without a word."""
    for step in steps:
        if (rate := schedule(step)) < 0:
            raise SettingError(
                f"the learning rate must be >= 0, got {rate:g} with lr_schedule "
                f"{text}; choose other values."
            )
