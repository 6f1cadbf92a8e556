"""Samples that go through a network at once, by the size of their logits."""

from __future__ import annotations

import math

from torch import nn

from steppe_lab.datasets.samples import AbstractSamples, CountedTargets
from steppe_lab.tasks import AbstractTask

ROWS = 256  # samples that are scored or measured on at once
LOGITS = 2**25  # numbers of a batch, 128 MiB in float32


def rows_within(samples: AbstractSamples, task: AbstractTask, most: int = ROWS) -> int:
    """Samples whose logits are few enough numbers to be in memory several times.

    A network of tokens gives a logit for every token of the vocabulary at every
    position; what is derived from them, again and again, is as large.

    Args:
        samples: of one data set.
        task: that is learnt.
        most: samples in any case.
    """
    if not task.of_tokens or not len(samples):
        return most
    # The vocabulary has as many tokens as the largest target says, or a few more.
    largest = (
        samples.token_range()[1]
        if isinstance(samples, CountedTargets)
        else int(samples.targets.max())
    )
    numbers = math.prod(samples.in_shape) * (1 + largest)
    return max(1, min(most, LOGITS // max(numbers, 1)))


def score_batch(model: nn.Module) -> int | None:
    """Samples that a network says it is scored on at once; None where it does not.

    Scores depend on it by rounding alone, but for networks that are scored by a
    protocol of others in which they do.
    """
    said = getattr(model, "score_batch", None)
    return said if isinstance(said, int) else None


def scored_rows(model: nn.Module, samples: AbstractSamples, task: AbstractTask) -> int:
    """Samples that a network is scored on at once."""
    return score_batch(model) or rows_within(samples, task)
