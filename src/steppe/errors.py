"""Errors that steppe raises on purpose, and the checks of single settings.

Each is one sentence with the rule, the value and the fix.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any


class SteppeError(Exception):
    """Base of every error that steppe raises on purpose.

    Its text is one sentence for the person who made the call; the command line
    prints it without a traceback and exits with code 2.
    """


class SettingError(SteppeError, ValueError):
    """A setting of the wrong name, type or range."""


class ChangedCodeError(SettingError):
    """Code of the user that differs from the code that a record names."""


class UnknownNameError(SteppeError, ValueError):
    """A name that no registry has."""


class TrustError(SteppeError, RuntimeError):
    """Code of the user that a record names and the caller does not."""


class UsageError(SteppeError, RuntimeError):
    """Calls in an order that has no meaning, such as a step without its passes."""


class DataError(SteppeError, ValueError):
    """Data that is missing, damaged or violates its format."""


class CheckpointError(SteppeError, ValueError):
    """A checkpoint that cannot be read back, or contradicts its record."""


class StoreError(SteppeError, RuntimeError):
    """A run store that cannot be read or written."""


def brief(value: object) -> str:
    """A value as a refusal shows it: itself where that is short, else its type.

    Example:
        >>> brief(0.5), brief([0.0] * 1000)
        ('0.5', 'a list of float')
    """
    text = repr(value)
    if len(text) <= 60 and "\n" not in text:
        return text
    kind = f"a {type(value).__name__}"
    several = isinstance(value, list | tuple) and value
    return f"{kind} of {type(value[0]).__name__}" if several else kind  # type: ignore[index]


def install(extra: str) -> str:
    """The command that installs an extra, for the end of a sentence.

    Example:
        >>> install("viz")
        "run pip install '.[viz]' in a clone of steppe"
    """
    # A clone: no package index has steppe, so a name alone would find nothing there.
    return f"run pip install '.[{extra}]' in a clone of steppe"


def check_range(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Refuse anything but a finite number in [low, high].

    Args:
        name: of the setting.
        value: any object.
        low: the least value.
        high: the largest value.
        above: `low` itself is left out.
        below: `high` itself is left out.
    """
    # Optimizers ask in every step: the sentence is written where it is needed.
    number = type(value) in (float, int) or _is_number(value)
    if number and low <= value <= high and math.isfinite(value):
        at_open_end = (above and value == low) or (below and value == high)
        if not at_open_end:
            return
    rule = _rule(low, high, above, below)
    check_number(name, value, rule)
    raise SettingError(f"{name} must be {rule}, got {value}.")


def _rule(low: float, high: float, above: bool, below: bool) -> str:
    """A range in words."""
    if -math.inf < low and high < math.inf and not above and not below:
        return f"between {low:g} and {high:g}"
    least = [f"{'>' if above else '>='} {low:g}"] if low > -math.inf else []
    most = [f"{'<' if below else '<='} {high:g}"] if high < math.inf else []
    return " and ".join(least + most) or "finite"


def check_positive(name: str, value: Any) -> None:
    """Refuse anything but a finite number > 0."""
    check_range(name, value, 0.0, above=True)


def check_count(name: str, value: Any, low: int) -> None:
    """Refuse anything but a whole number >= low."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        rule = f"a whole number >= {low}"
        raise SettingError(f"{name} must be {rule}, got {brief(value)}.")
    check_range(name, value, low=low)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse a value that is none of a few names."""
    if value not in choices:
        *first, last = map(repr, choices)
        listed = f"{', '.join(first)} or {last}" if first else last
        raise SettingError(f"{name} must be {listed}, got {brief(value)}.")


def check_switch(name: str, value: Any) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise SettingError(f"{name} must be True or False, got {brief(value)}.")


def check_callable(name: str, value: Any, does: str) -> None:
    """Refuse a value that cannot be called; the message names its purpose."""
    if not callable(value):
        raise SettingError(
            f"{name} must be a function that {does}, got {brief(value)}."
        )


def check_integer(name: str, value: Any) -> None:
    """Refuse anything but a whole number, such as a seed that is a text."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise SettingError(f"{name} must be a whole number, got {brief(value)}.")


def check_numbers(settings: Mapping[str, Any]) -> None:
    """Refuse values that are no finite numbers, but for None and tuples."""
    for name, value in settings.items():
        if not isinstance(value, tuple | None):
            check_range(name, value)


def check_number(name: str, value: Any, rule: str) -> None:
    """Refuse anything but a real number; the message holds the rule of its range."""
    # Optimizers ask in every step: the usual types first.
    if type(value) not in (float, int) and not _is_number(value):
        raise SettingError(f"{name} must be a number {rule}, got {brief(value)}.")


def _is_number(value: Any) -> bool:
    """Whether a value is a real number, of numpy or torch too, but no truth value."""
    kind = str(getattr(value, "dtype", ""))
    if isinstance(value, bool) or "bool" in kind or "complex" in kind:
        return False
    scalar = hasattr(value, "__float__") and getattr(value, "ndim", 1) == 0
    return isinstance(value, Real) or scalar
