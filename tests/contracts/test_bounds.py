"""Ranges of settings: declared for every number, and kept."""

from __future__ import annotations

import math
from typing import Any, Literal, get_origin

import pytest
import torch

import loops
from steppe.averaging import AVERAGES
from steppe.bases import BASES
from steppe.errors import SettingError
from steppe.gates import GATES
from steppe.geometry import GEOMETRIES
from steppe.measures import MEASURES
from steppe.optimizers import OPTIMIZERS
from steppe.registry.bounds import Range, check_bounds
from steppe.registry.registry import Choice, Entry, Registry
from steppe.registry.settings_text import is_tuple, options
from steppe.schedules import SCHEDULES
from steppe_lab.attacks import ATTACKS
from steppe_lab.augmentation import AUGMENTATIONS
from steppe_lab.models import MODELS
from steppe_lab.training.plateau import LR_RULES

PARTS: list[Registry[Any]] = [SCHEDULES, GATES, GEOMETRIES, LR_RULES]
REGISTRIES: list[Registry[Any]] = [
    OPTIMIZERS,
    BASES,
    AVERAGES,
    MEASURES,
    MODELS,
    AUGMENTATIONS,
    ATTACKS,
    *PARTS,
]


def numbers(registry: Registry[Any], entry: Entry[Any]) -> set[str]:
    """Names of the settings that are numbers, or tuples of them.

    One that may be a word, too, is checked where it is read.
    """
    part = registry in PARTS
    settings = entry.arguments() if part else entry.settings()
    return {
        name
        for name, p in settings.items()
        if ({int, float} & set(options(p.annotation)) or is_tuple(p.annotation))
        and Literal not in map(get_origin, options(p.annotation))
    }


EACH = Range(0.0, 1.0, several=True)


def limits(bound: Any) -> Range:
    return bound if isinstance(bound, Range) else Range(*bound)


def outside(bound: Range) -> list[float]:
    """Values that a range must refuse: its open ends, beyond its ends, no numbers."""
    beyond = [v for v in (bound.low - 1, bound.high + 1) if math.isfinite(v)]
    ends = [bound.low] * bound.above + [bound.high] * bound.below
    between = [0.5 if bound.low == -math.inf else bound.low + 0.5] * bound.whole
    return [*beyond, *ends, *between, math.nan, math.inf]


ENTRIES = [pytest.param(r, e, id=f"{r.kind}-{e.name}") for r in REGISTRIES for e in r]
CASES = [
    pytest.param(registry, entry, name, value, id=f"{entry.name}-{name}-{value}")
    for registry in REGISTRIES
    for entry in registry
    for name, bound in entry.spec.bounds.items()
    for value in outside(limits(bound))
]


def make(registry: Registry[Any], entry: Entry[Any], settings: dict[str, Any]) -> Any:
    if registry in PARTS:
        return entry.make(**settings)
    if registry is BASES:  # their functions leave it to the registry
        return registry.build(Choice(entry.name, settings), *FIRST[registry.kind])
    if registry is OPTIMIZERS:
        base = loops.base_for(entry, torch.nn.Linear(1, 1))
        return entry.make(base, **settings)
    return entry.make(*FIRST[registry.kind], **settings)


FIRST: dict[str, tuple[Any, ...]] = {  # arguments beside the settings
    "base optimizer": ([torch.nn.Parameter(torch.ones(1))],),
    "average": (torch.nn.Linear(1, 1),),
    "measure": (),
    "model": ((1, 32, 32), 2),
    "augmentation": (),
    "attack": (),
}
NEEDED = {  # arguments without a default
    **dict.fromkeys(("value", "start", "max_value"), 2.0),
    **dict.fromkeys(("end", "min_value", "factor", "rate"), 1.0),
    **dict.fromkeys(("max_lr", "steps"), 5),
    **dict.fromkeys(("milestones", "boundaries"), (1, 2)),
    "values": (0.1, 0.2, 0.3),
    **dict.fromkeys(("interval", "fraction", "probability", "k"), 1),
}


def complete(registry: Registry[Any], entry: Entry[Any]) -> dict[str, Any]:
    if registry is OPTIMIZERS:
        return dict(entry.spec.example)
    if registry not in PARTS:
        return dict(registry.choose(entry.name, {}).settings)
    known = entry.arguments().items()
    return {name: NEEDED[name] for name, p in known if p.default is p.empty}


@pytest.mark.parametrize(("registry", "entry"), ENTRIES)
def test_every_number_among_the_settings_has_a_range(registry, entry):
    assert numbers(registry, entry) == set(entry.spec.bounds)


@pytest.mark.parametrize(
    ("registry", "entry"),
    [each for each in ENTRIES if each.values[0] not in (BASES, MODELS)],
)
def test_settings_within_their_ranges_are_taken(registry, entry):
    assert make(registry, entry, complete(registry, entry)) is not None


@pytest.mark.parametrize(("registry", "entry", "name", "value"), CASES)
def test_a_value_outside_of_its_range_is_refused_by_name(registry, entry, name, value):
    settings = complete(registry, entry)
    known = {**entry.settings(), **entry.arguments()}
    several = is_tuple(known[name].annotation)
    settings[name] = (value,) if several else value
    with pytest.raises(SettingError, match=rf"\b{name} must be .*got") as caught:
        make(registry, entry, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("bound", "value", "sentence"),
    [
        ((0.0, 1.0), 2, "x must be between 0 and 1, got 2."),
        ((0.0, math.inf), -1, "x must be >= 0, got -1."),
        ((-math.inf, 0.0), 1, "x must be <= 0, got 1."),
        (Range(), math.inf, "x must be finite, got inf."),
        (Range(0.0, above=True), 0, "x must be > 0, got 0."),
        (Range(0.0, above=True), -1, "x must be > 0, got -1."),
        (Range(0.0, above=True), "a", "x must be a number > 0, got 'a'."),
        (Range(0.0, 1.0, below=True), 1, "x must be >= 0 and < 1, got 1."),
        (Range(2, whole=True), 1.5, "x must be a whole number >= 2, got 1.5."),
        (Range(2, whole=True), 1, "x must be >= 2, got 1."),
        (EACH, (0.5, 2.0), "every entry of x must be between 0 and 1, got 2.0."),
        (EACH, 0.5, "x must be several numbers, got 0.5."),
        ((0.0, 1.0), "a", "x must be a number between 0 and 1, got 'a'."),
        ((0.0, 1.0), (0.5,), "x must be a number between 0 and 1, got (0.5,)."),
    ],
)
def test_a_refusal_says_the_rule_and_the_value(bound, value, sentence):
    with pytest.raises(SettingError) as caught:
        check_bounds({"x": value}, {"x": bound})
    assert str(caught.value) == sentence


def test_what_is_left_open_passes():
    check_bounds({"x": None, "y": ()}, {"x": (0.0, 1.0), "y": EACH})
