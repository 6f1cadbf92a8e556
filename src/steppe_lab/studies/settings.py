"""Settings of a study: its factors, seeds and measures; importable without torch.

A study file is YAML, or a function that returns the same mapping; `files.py` reads it,
`expansion.py` makes trials of it. Names of methods stay texts here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from steppe.errors import SettingError, brief
from steppe.measuring.modes import Mode
from steppe.registry.registry import unknown_name
from steppe_lab.runs.attack_settings import AttackSettings
from steppe_lab.studies.conditions import Condition
from steppe_lab.training.settings import SEEDS

COMPARED = "compare-"  # begins the names of comparisons in a store
MOST_SEEDS = 100_000
_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,99}")


class AnalysisSettings(BaseModel):
    """How every network is measured, and which rows and which gap a table has.

    Args:
        samples: at most so many training samples are measured on.
        mode: the network as it predicts, or as it trains.
        batch_size: samples that go through a network at once; larger batches cost
            small networks less time, and change numbers by rounding.
        line_points: points of the loss along a random line; 0 for no line.
        line_radius: the line runs from minus to plus this, in units of the norms of
            the filters.
        gap: name of the score that the gap is of, test minus train, such as "loss"; ""
            for the metric that networks are judged by. A gap of shares, such as
            errors, is in percentage points.
        gap_at: the gap after the last epoch, or at the best one.
        keep: conditions on the columns of a row, such as train_loss <= 0.01; a network
            that one of them does not hold for is dropped from the table, and counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: int = Field(default=2000, ge=1)
    mode: Mode = "eval"
    batch_size: int = Field(default=256, ge=1)
    line_points: int = Field(default=0, ge=0, le=10_001)
    line_radius: float = Field(default=1.0, gt=0.0)
    gap: str = ""
    gap_at: Literal["last", "best"] = "last"
    keep: tuple[str, ...] = ()

    @field_validator("keep", mode="before")
    @classmethod
    def _conditions(cls, value: Any) -> Any:
        return _texts("analysis: keep", value)


class StudySettings(BaseModel):
    """Everything that the trials of a study and their table follow from.

    Args:
        name: of the study, a file name.
        base: settings that all trials share, by the names that `steppe train` has.
        grid: levels by setting; trials are their product. A dotted name, such as
            `model.width` or `base.lr`, varies one setting of a choice.
        zip: groups of settings that vary together; each group is one axis of the
            product. A file may give a single group as it is.
        where: conditions on factors and `seed` that all trials meet.
        seeds: of the trials; a number n stands for 0 to n - 1.
        measures: groups of measures; those of a group are measured together, in one
            analysis of each network. A list of texts is one group.
        analysis: how networks are measured, and the rules of the table.
        attack: attacks on every network, by the names that `steppe attack` has; None
            for none.
        scales: other values of all of these, by a name such as "smoke"; mappings are
            merged key by key, and null takes a key away.
        scale: name of the scale that was taken; "" for the study as it is.

    Raises:
        SettingError: a value of another form; it is named with its key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    base: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    zip: tuple[dict[str, tuple[Any, ...]], ...] = ()
    where: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    measures: tuple[tuple[str, ...], ...] = ()
    analysis: AnalysisSettings = AnalysisSettings()
    attack: AttackSettings | None = None
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)
    scale: str = ""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise SettingError(
                "a study must be a mapping with name, base, grid, ..., got "
                f"{brief(data)}."
            )
        for key in data:
            if key not in cls.model_fields:
                raise unknown_name("key of a study", str(key), cls.model_fields)
        if "name" not in data:
            raise SettingError(
                "a study needs a name, got none; write name: my-study at its top."
            )
        return data

    @field_validator("name")
    @classmethod
    def _file_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or value.startswith(COMPARED):
            raise SettingError(
                "name must be letters, digits, - and _ that do not begin with "
                f"{COMPARED}, got '{value[:60]}'; rename the study."
            )
        return value

    @field_validator("base", mode="before")
    @classmethod
    def _mapping(cls, value: Any) -> Any:
        return _mapping("base", value)

    @field_validator("grid", mode="before")
    @classmethod
    def _levels(cls, value: Any) -> Any:
        by_key = _mapping("grid", value)
        return {key: _grid_levels(f"grid: {key}", each) for key, each in by_key.items()}

    @field_validator("zip", mode="before")
    @classmethod
    def _groups(cls, value: Any) -> Any:
        groups = value if isinstance(value, list | tuple) else [value or {}]
        return tuple(_group(each) for each in groups if each)

    @field_validator("where", mode="before")
    @classmethod
    def _conditions(cls, value: Any) -> Any:
        return _texts("where", value)

    @field_validator("seeds", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        seeds = range(value) if _is_count(value) and value <= MOST_SEEDS else value
        wrong = not isinstance(seeds, Sequence) or isinstance(seeds, str)
        if wrong or not seeds or not all(map(_is_seed, seeds)):
            raise SettingError(
                f"seeds must be a number from 1 to {MOST_SEEDS:,} or a list of whole "
                f"numbers from 0 to 2**32 - 1, got {brief(value)}."
            )
        _check_once("seeds", seeds)
        return tuple(seeds)

    @field_validator("measures", mode="before")
    @classmethod
    def _measured_together(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            value = [value] if value else []
        if not isinstance(value, list | tuple):
            raise SettingError(f"measures must be a list, got {brief(value)}.")
        # Texts beside lists of texts are a group too, the first.
        together = [each for each in value if isinstance(each, str)]
        groups = [each for each in value if not isinstance(each, str)]
        texts = [_texts("measures", each) for each in [together, *groups] if each]
        _check_once("measures", [text for group in texts for text in group])
        return tuple(texts)

    @field_validator("scales", mode="before")
    @classmethod
    def _scales(cls, value: Any) -> Any:
        fields = cls.model_fields.keys() - {"name", "scales", "scale"}
        by_name = _mapping("scales", value)
        for scale, changes in by_name.items():
            for key in _mapping(f"scales: {scale}", changes):
                if key not in fields:
                    raise unknown_name(f"key of the scale {scale}", str(key), fields)
        return {scale: dict(changes or {}) for scale, changes in by_name.items()}

    @model_validator(mode="after")
    def _one_place(self) -> StudySettings:
        """Refuse a setting that is varied in two places."""
        varied = [*self.grid, *(key for group in self.zip for key in group)]
        _check_once("grid and zip", varied)
        return self

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without attacks where there are none, as studies were stored before."""
        record: dict[str, Any] = handler(self)
        if self.attack is None:
            record.pop("attack", None)
        return record

    def at_scale(self, scale: str) -> StudySettings:
        """The study at one of its scales; "" for the study as it is.

        Raises:
            UnknownNameError: no such scale.
            SettingError: a value of the scale that the study refuses.
        """
        if not scale:
            return self
        if scale not in self.scales:
            raise unknown_name("scale", scale, self.scales)
        # Groups of zip that were one mapping in the file are so here.
        own = self.model_dump(mode="json", exclude={"scales"})
        one_group = own["zip"][0] if len(own["zip"]) == 1 else own["zip"]
        changed: dict[str, Any] = {**own, "zip": one_group, "scale": scale}
        for key, value in self.scales[scale].items():
            before = changed.get(key)
            before = before if isinstance(before, Mapping) else {}
            if isinstance(value, Mapping):
                kept = {k: v for k, v in before.items() if k not in value}
                value = kept | {k: v for k, v in value.items() if v is not None}
            changed[key] = value
        return StudySettings.model_validate(changed)

    @property
    def trials(self) -> int:
        """Trials before `where`: the product of all levels and seeds."""
        of_groups = [len(next(iter(group.values()))) for group in self.zip]
        counts = [*map(len, self.grid.values()), *of_groups, len(self.seeds)]
        return math.prod(counts)

    @property
    def stored_name(self) -> str:
        """Name of the record in a store: studies of unlike scales are apart."""
        return f"{self.name}@{self.scale}" if self.scale else self.name

    @property
    def keep(self) -> tuple[Condition, ...]:
        """Conditions on the rows of the table."""
        return tuple(map(Condition, self.analysis.keep))


def _mapping(key: str, value: Any) -> dict[str, Any]:
    value = {} if value is None else value
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise SettingError(
            f"{key} must be a mapping of names to values, got {brief(value)}."
        )
    return dict(value)


def _levels(key: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise SettingError(
            f"{key} must be a list of one level or more, got {brief(value)}; write "
            f"[{value}]."
            if not isinstance(value, list | tuple)
            else f"{key} must have one level or more, got none; leave it out."
        )
    return tuple(value)


def _grid_levels(key: str, value: Any) -> tuple[Any, ...]:
    """Levels of a factor of the product, where one twice would be one trial twice."""
    levels = _levels(key, value)
    # 1 and 1.0 are equal, and may be settings of unlike kinds.
    texts = list(map(repr, levels))
    for level in levels:
        if (count := texts.count(repr(level))) > 1:
            often = "twice" if count == 2 else f"{count} times"
            raise SettingError(f"{key} has {level} {often}; leave one out.")
    return levels


def _group(value: Any) -> dict[str, tuple[Any, ...]]:
    """Settings that vary together, with as many levels each."""
    by_key = _mapping("zip", value)
    levels = {key: _levels(f"zip: {key}", each) for key, each in by_key.items()}
    counts = {key: len(each) for key, each in levels.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} of {key}" for key, count in counts.items())
        raise SettingError(
            f"settings that vary together must have as many levels, got {said}; give "
            "the same number of each."
        )
    return levels


def _texts(key: str, value: Any) -> tuple[str, ...]:
    """One text or several, none of them twice."""
    several = [value] if isinstance(value, str) else value or []
    wrong = not isinstance(several, list | tuple)
    if wrong or not all(isinstance(each, str) for each in several):
        raise SettingError(f"{key} must be texts, got {brief(value)}.")
    _check_once(key, several)
    if key != "measures":
        for text in several:
            Condition(text)
    return tuple(several)


def _check_once(key: str, values: Sequence[Any]) -> None:
    seen: set[str] = set()
    for value in values:
        if repr(value) in seen:
            raise SettingError(f"{key} must name each once, got {value} again.")
        seen.add(repr(value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < SEEDS
