"""Which recipes train as one pack: those of one structure, and why others do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from steppe_lab.models.carrying import carries_state
from steppe_lab.training.callbacks.stopping import PERTURBED
from steppe_lab.training.plateau import read_plateau
from steppe_lab.training.recipe import Recipe

# Settings in which members may differ, by choice; the seed is one beside them.
BASES: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"lr", "momentum", "weight_decay", "nesterov"}),
}
METHODS: Mapping[str, frozenset[str]] = {
    "sam": frozenset({"rho"}),
    "asam": frozenset({"rho", "eta"}),
    "lpf_sgd": frozenset({"gamma"}),
}
# Settings of the methods that are computed for all members at one value alone.
_FIXED: Mapping[str, Mapping[str, Any]] = {
    "sam": {"ascent_steps": 1, "geometry": None},
    "asam": {"style": "matrices", "p": "2"},
    "lpf_sgd": {},
}
# What a recipe may ask for that is done for one network at a time.
_ALONE: Sequence[tuple[Callable[[Recipe], object], str]] = (
    (lambda r: r.augment, "its images are augmented"),
    (lambda r: r.amp != "off", "it trains in lower precision"),
    (lambda r: r.compile, "its network is compiled"),
    (lambda r: r.channels_last, "its images have their channels last"),
    (lambda r: r.average, "its weights are averaged"),
    (lambda r: r.track, "something is followed along it"),
    (lambda r: r.processes > 1, "several processes train it"),
    (lambda r: r.perturbations > 1, "parts of a batch are perturbed by themselves"),
    (lambda r: carries_state(r.model), "its network carries a state between batches"),
    (lambda r: r.l2, "its loss has an L2 penalty"),
    (lambda r: r.clip_norm or r.clip_value, "its gradients are clipped"),
    (lambda r: r.stop_on == PERTURBED, "it stops by the loss at perturbed weights"),
    (lambda r: PERTURBED in r.stop_at, "it stops by the loss at perturbed weights"),
    (lambda r: read_plateau(r.lr_schedule), "its learning rate follows a plateau"),
    (lambda r: r.device != "cpu", "it trains on another device than a CPU"),
)


def why_alone(recipe: Recipe) -> str:
    """Why a recipe trains by itself, as half a sentence; "" where it can be packed.

    Example:
        >>> known = {"data": "digits", "model": "mlp", "base": "adam"}
        >>> why_alone(Recipe.model_validate(known))
        'its base is adam'
    """
    if recipe.base.name not in BASES:
        return f"its base is {recipe.base.name}"
    for asks, reason in _ALONE:
        if asks(recipe):
            return reason
    method = recipe.optimizer
    if method is None:
        return ""
    if method.name not in METHODS:
        return f"its method is {method.name}"
    for name, value in _FIXED[method.name].items():
        if method.settings.get(name, value) != value:
            return f"{name} of its method is not {value}"
    return ""


def structure_of(recipe: Recipe) -> str:
    """All of a recipe that the members of a pack have in common, as a text."""
    record = recipe.model_dump(mode="json")
    record["seed"] = None
    for kind, known in (("base", BASES), ("optimizer", METHODS)):
        choice = record.get(kind)
        if choice:
            varied = known.get(choice["name"], frozenset())
            settings = choice["settings"].items()
            record[kind] = {
                "name": choice["name"],
                "settings": {k: v for k, v in settings if k not in varied},
            }
    return json.dumps(record, sort_keys=True)


def packs(recipes: Sequence[Recipe], at_most: int) -> list[tuple[int, ...]]:
    """Positions of recipes that train together, each once.

    Recipes of one structure are dealt out to as few packs as hold them, which differ by
    at most one member in their size. A recipe that trains by itself is alone in its
    tuple.

    Args:
        recipes: of trainings.
        at_most: members of a pack.

    Example:
        >>> known = {"data": "digits", "model": "mlp", "base": "sgd"}
        >>> recipes = [Recipe.model_validate({**known, "seed": s}) for s in range(5)]
        >>> packs(recipes, at_most=3)
        [(0, 1, 2), (3, 4)]
    """
    groups: dict[str, list[int]] = {}
    for place, recipe in enumerate(recipes):
        alone = why_alone(recipe)
        key = f"{place}" if alone else structure_of(recipe)
        groups.setdefault(key, []).append(place)
    return [each for group in groups.values() for each in dealt(group, at_most)]


def dealt(group: Sequence[int], at_most: int) -> list[tuple[int, ...]]:
    """A group in as few parts of nearly one size as hold it."""
    count = -(-len(group) // max(at_most, 1))
    ends = [-(-len(group) * (n + 1) // count) for n in range(count)]
    starts = [0, *ends[:-1]]
    return [tuple(group[a:b]) for a, b in zip(starts, ends, strict=True)]
