"""Settings of attacks, importable without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from steppe.errors import SettingError
from steppe_lab.training.settings import SEEDS

Protocol = Literal["pixels", "published"]
ALL = "all"  # in the place of the names of all attacks
MOST = 1000  # budgets
_SETTING = re.compile(r"\s*\w+\s*=")


class AttackSettings(BaseModel):
    """Settings that the results of attacks follow from, beside the network."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    attacks: tuple[str, ...] = ("fgsm", "pgd", "apgd")
    """Attacks with commas between them, such as fgsm,pgd:steps=100,restarts=5, or all;
    see `steppe list attacks`."""
    eps: tuple[str, ...] = ("8/255",)
    """Budgets, as numbers or fractions: the largest norm of a change, where inputs are
    pixels from 0 to 1. The norm is that of each attack."""
    samples: int = Field(default=1000, ge=1)
    """Samples to attack, at most, drawn by the seed of the data."""
    part: Literal["train", "test"] = "test"
    """Samples of which part of the data."""
    protocol: Protocol = "pixels"
    """Whose changes have the budget: those of pixels, before they are standardised; or
    published, those of standardised inputs, with the bounds 0 and 1, as widespread
    scripts have it."""
    bounds: tuple[float, float] | None = None
    """The least and the largest value of an input, for data of your own that come
    without a standardisation. With others than 0 and 1, budgets are in units of the
    inputs."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of random starts and of noise."""

    @field_validator("attacks", "eps", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """One text or number of a study file, or several."""
        several = value if isinstance(value, list | tuple) else [value]
        number = int | float
        return tuple(
            str(each)
            if isinstance(each, number) and not isinstance(each, bool)
            else each
            for each in several
        )

    @field_validator("attacks")
    @classmethod
    def _each_apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return separated(value)

    @field_validator("eps")
    @classmethod
    def _numbers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        pieces = tuple(
            p.strip() for text in value for p in text.split(",") if p.strip()
        )
        if not 1 <= len(pieces) <= MOST:
            raise SettingError(
                f"eps must be 1 to {MOST:,} budgets, such as 8/255 or 0.03, got "
                f"{len(pieces)}."
            )
        by_value = {budget(piece): piece for piece in pieces}
        return tuple(by_value[each] for each in sorted(by_value))

    @field_validator("bounds")
    @classmethod
    def _apart(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise SettingError(
                f"bounds must be the least and the largest value of an input, got "
                f"{value[0]:g} and {value[1]:g}; name the smaller one first."
            )
        return value

    @property
    def epsilons(self) -> tuple[float, ...]:
        """Budgets, ascending."""
        return tuple(budget(text) for text in self.eps)


def separated(texts: Iterable[str]) -> tuple[str, ...]:
    """Attacks of texts with commas, which stand between settings of one attack too.

    Example:
        >>> separated(["fgsm,pgd:steps=10,restarts=2", "bim"])
        ('fgsm', 'pgd:steps=10,restarts=2', 'bim')

    Raises:
        SettingError: none, or one of them twice.
    """
    attacks: list[str] = []
    for text in texts:
        own: list[str] = []
        for piece in text.split(","):
            # What has a colon is another attack: settings have an equals sign alone.
            if own and _SETTING.match(piece):
                own[-1] += f",{piece.strip()}"
            elif piece.strip():
                own.append(piece.strip())
        attacks += own
    twice = [each for each in attacks if attacks.count(each) > 1]
    if not attacks or twice:
        got = f"{twice[0]} again" if twice else "none"
        raise SettingError(
            f"name every attack once, and at least one, as fgsm,pgd; got {got}."
        )
    return tuple(attacks)


def budget(text: str) -> float:
    """A budget by text.

    Example:
        >>> budget("0.5"), budget("51/255")
        (0.5, 0.2)

    Raises:
        SettingError: no number or fraction >= 0.
    """
    above, slash, below = text.partition("/")
    try:
        value = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise SettingError(
            f"eps must be numbers or fractions >= 0, such as 0.03 or 8/255, got "
            f"'{text}'."
        )
    return abs(value)
