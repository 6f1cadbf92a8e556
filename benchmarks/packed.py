"""Trainings as one pack over the same trainings one by one, on one core.

Both train, score every epoch and run all rules of a training; files are left out. The
reference trains a few members alone, and the ratio is that of the times of a member.
Samples are the digits that the laboratory has, 1000 to train on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.timing import Benchmark, ratios
from steppe_lab.datasets import Split
from steppe_lab.datasets.loading import load_split
from steppe_lab.training.loop import train
from steppe_lab.training.packed.loop import train_packed
from steppe_lab.training.recipe import Recipe

EPOCHS = 10
ALONE = 2  # members that are trained one by one
ROUNDS = 3
METHODS = {"sgd": None, "sam": "sam:rho=0.05", "lpf_sgd": "lpf_sgd:micro_batches=4"}
# Largest ratios, by the model and the number of members.
BOUNDS = {
    ("mlp:hidden=32", 4): 0.5,
    ("mlp:hidden=32", 27): 1 / 3,
    ("mlp:hidden=32", 81): 1 / 3,
    ("mlp:hidden=128", 27): 0.5,
    ("mlp:hidden=32,batch_norm=true", 27): 1 / 3,
    ("small_cnn:width=4", 16): 0.6,
    ("small_cnn:width=8,batch_norm=true", 16): 0.9,
    ("resnet18:width=4", 16): 0.9,
}


@dataclass(frozen=True)
class Group:
    """Recipes of one structure, which differ in seed and learning rate."""

    model: str
    members: int
    method: str

    @cached_property
    def recipes(self) -> list[Recipe]:
        known = {
            "data": "digits",
            "model": self.model,
            "optimizer": METHODS[self.method],
            "epochs": 2 if self.model.startswith("resnet") else EPOCHS,
        }
        return [
            Recipe.model_validate(
                {**known, "seed": n % 3, "base": f"sgd:lr={0.01 * (1 + n % 9)}"}
            )
            for n in range(self.members)
        ]

    @cached_property
    def split(self) -> Split:
        return load_split(self.recipes[0])

    def packed(self) -> None:
        train_packed(self.recipes, self.split, ended=_ended)

    def alone(self) -> None:
        for recipe in self.recipes[:ALONE]:
            train(recipe, self.split)

    def run(self, _: int) -> dict[str, Any]:
        times = ratios(self.packed, self.alone, rounds=ROUNDS, warmup=0)
        share = ALONE / self.members
        own = {name: times[name] * share for name in ("ratio", "median_of_ratios")}
        gain = {"times_as_fast": 1 / own["ratio"], "members": self.members}
        return {**times, **own, **gain}


def _ended(_: int, outcome: object) -> None:
    if isinstance(outcome, Exception):
        raise outcome


def benchmarks() -> Iterator[Benchmark]:
    """Each model and size of a pack with each method."""
    for (model, members), bound in BOUNDS.items():
        for method in METHODS:
            run: Callable[[int], dict[str, Any]] = Group(model, members, method).run
            yield Benchmark(
                f"pack of {members}, {method}, over alone", model, bound, run
            )
