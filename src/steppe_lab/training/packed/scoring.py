"""Scores of all members of a pack on the same samples.

Shape letters: K members, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.datasets.split import SampleGroup
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.evaluation import Score
from steppe_lab.training.packed.methods import losses_of
from steppe_lab.training.packed.network import AbstractPackedNetwork
from steppe_lab.training.rows import score_batch

# Rows of all members together that are scored at once.
_ROWS = 4096
_FEWEST = 32  # of one member


@torch.no_grad()
def evaluate_packed(
    network: AbstractPackedNetwork,
    samples: AbstractSamples,
    task: AbstractTask,
    *,
    groups: Mapping[str, SampleGroup] | None = None,
) -> list[Score]:
    """Score each member in eval mode, as `evaluate` scores a network.

    Args:
        network: of K members.
        samples: N of them.
        task: gives the loss and the metrics.
        groups: some of the samples, scored apart from the same outputs, by name.

    Returns:
        K scores, without the positions of wrong samples.
    """
    count, groups = network.stack.count, groups or {}
    whole, parts = _Sums(task, count), {n: _Sums(task, count) for n in groups}
    rows = score_batch(network.stack.models[0]) or max(_FEWEST, _ROWS // count)
    start = 0
    for inputs, targets in samples.pieces(rows):
        params = network.stack.params
        outputs = network(params, inputs, training=False, shared=True)
        for name, chosen, own in _of_groups(groups, start, len(targets)):
            parts[name].add(outputs[:, chosen], own)
        whole.add(outputs, targets)
        start += len(targets)
    of_parts = {name: sums.scores() for name, sums in parts.items()}
    return [
        Score(
            score.loss,
            score.metrics,
            score.samples,
            None,
            {name: each[place] for name, each in of_parts.items()},
        )
        for place, score in enumerate(whole.scores())
    ]


def _of_groups(
    groups: Mapping[str, SampleGroup], first: int, size: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Rows of a batch that are in each group, and their targets there."""
    rows = slice(first, first + size)
    for name, group in groups.items():
        inside = group.chosen[rows].nonzero().flatten()
        if len(inside):
            yield name, inside, group.targets[rows][inside]


class _Sums:
    """Losses and metrics of each member, summed batch by batch."""

    def __init__(self, task: AbstractTask, count: int) -> None:
        self._task, self._count = task, count
        self._samples = self._terms = 0
        self._losses: Any = 0.0
        self._values: dict[str, list[Tensor]] = {}

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        task, count = self._task, self._count
        beside = targets.expand(count, *targets.shape)
        self._samples += len(targets)
        self._terms += int(task.terms(targets).sum())
        self._losses = self._losses + losses_of(task, outputs, beside).sum(1).double()
        metrics = task.metrics(outputs.flatten(0, 1), beside.flatten(0, 1))
        for name, each in metrics.items():
            self._values.setdefault(name, []).append(each.view(count, -1))

    def scores(self) -> list[Score]:
        task = self._task
        losses = (self._losses / self._terms).tolist()
        means = {
            name: torch.cat(each, 1).double().mean(1).tolist()
            for name, each in self._values.items()
        }
        return [
            Score(
                loss,
                {n: task.metric(n).of_mean(m[place]) for n, m in means.items()},
                self._samples,
                None,
            )
            for place, loss in enumerate(losses)
        ]
