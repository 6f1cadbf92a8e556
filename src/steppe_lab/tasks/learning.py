"""Whether a network has learnt anything, as far as a share of samples tells."""

from __future__ import annotations

import math
from typing import Literal

from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.tasks.abstract import ERROR, AbstractTask

HIGH = 2.0  # times the loss of an even guess: too large steps have been taken


def has_learnt(
    share: float, bound: float, better: Literal["smaller", "larger"]
) -> bool:
    """Whether a share of training samples is better than a bound."""
    return share < bound if better == "smaller" else share > bound


def error_of_most_frequent(
    task: AbstractTask, samples: AbstractSamples
) -> float | None:
    """Error of naming the most frequent class for every sample; None without classes.

    Args:
        task: what is learnt.
        samples: N of them.
    """
    if task.headline != ERROR:
        return None
    targets = samples.targets
    if targets.dim() != 1 or targets.is_floating_point():
        return None
    return 1 - int(targets.bincount().max()) / len(targets)


def note_on_learning(
    error: float, chance: float | None, *, highest_loss: float, classes: int
) -> str:
    """A sentence on a network that has learnt nothing; "" for one that has.

    Args:
        error: on training samples.
        chance: from `error_of_most_frequent`.
        highest_loss: of all epochs, without a penalty.
        classes: number of them.
    """
    if chance is None or has_learnt(error, chance, "smaller"):
        return ""
    # The same probability for every class has the loss log C.
    too_fast = highest_loss > HIGH * math.log(classes)
    fix = (
        "lower the learning rate"
        if too_fast
        else "train for more epochs or raise the learning rate"
    )
    return (
        f"the network has not learnt: its train error, {error:.2%}, is not below "
        f"{chance:.2%}, that of the most frequent class; {fix}"
    )
