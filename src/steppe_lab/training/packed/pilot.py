"""A few steps of a pack and of a training alone, timed against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from steppe_lab.datasets import Split
from steppe_lab.training.packed.loop import packed_form
from steppe_lab.training.packed.pack import Member, Pack, TrainingBatches
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState
from steppe_lab.training.step import fetch, take_step

_STEPS = 3  # of each, after one to warm up


@dataclass(frozen=True)
class Speeds:
    """Seconds of the processor for a step of one network.

    Args:
        alone: by itself.
        packed: as a member of a pack.
        members: of that pack.
    """

    alone: float
    packed: float
    members: int

    @property
    def gain(self) -> float:
        """How many times as fast a member is."""
        return self.alone / max(self.packed, 1e-9)


def timed(recipes: Sequence[Recipe], split: Split) -> Speeds:
    """Time a few steps of trainings of one structure, packed and alone.

    Nothing of them is kept. Scores are left out.

    Args:
        recipes: two or more.
        split: samples to train on.

    Raises:
        CannotPackError: the network or the data does not allow it.
    """
    states = [TrainingState.fresh(recipe, split, None) for recipe in recipes]
    alone = TrainingState.fresh(recipes[0], split, None)
    form = packed_form(states, split)
    members = [Member(place, state) for place, state in enumerate(states)]
    pack = Pack(members, form, TrainingBatches(alone.resident["train"]))
    batch = alone.epochs.batches(0)[0]
    alone.model.train()

    def step_alone() -> None:
        terms = alone.task.terms(split.train.targets[batch])
        take_step(alone, split.train, fetch(alone, batch, 0), terms)

    def step_packed() -> None:
        pack.step_on(torch.stack([batch] * len(members)), step=0)

    with torch.random.fork_rng(devices=[]):
        packed = _seconds(step_packed) / len(members)
        return Speeds(_seconds(step_alone), packed, len(members))


def _seconds(step: Callable[[], None]) -> float:
    """Time of the fastest of a few steps."""
    taken = []
    for _ in range(1 + _STEPS):
        began = time.process_time()
        step()
        taken.append(time.process_time() - began)
    return min(taken[1:])
