"""Scores of a network on samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from steppe.results import Estimate
from steppe_lab.datasets.samples import AbstractSamples, Batch, on_device
from steppe_lab.datasets.split import SampleGroup
from steppe_lab.models.carrying import AbstractCarrying
from steppe_lab.tasks import AbstractTask, Metric
from steppe_lab.training.carrying import as_one_stream
from steppe_lab.training.rows import scored_rows
from steppe_lab.transfer import numbers


@dataclass(frozen=True)
class Score:
    """Mean loss and metrics of a network on some samples."""

    loss: float
    metrics: Mapping[str, float]  # by name
    samples: int
    wrong: tuple[int, ...] | None  # positions of 1 in a headline that is a share
    groups: Mapping[str, Score] = field(default_factory=dict)  # of these samples

    def row(self, part: str) -> dict[str, float]:
        """Loss and metrics by name, after "train_" or "test_".

        Those of a group follow, with its name in between, as "train_clean_loss".
        """
        named = {"loss": self.loss, **self.metrics}
        row = {f"{part}_{name}": value for name, value in named.items()}
        for name, score in self.groups.items():
            row |= score.row(f"{part}_{name}")
        return row

    def penalised(self, penalty: float) -> Score:
        """The same with a penalty of the weights in every loss."""
        groups = {name: each.penalised(penalty) for name, each in self.groups.items()}
        return replace(self, loss=self.loss + penalty, groups=groups)


AVERAGED = "average_"  # before the names of an average's scores


def scores_of_trained(row: Mapping[str, float]) -> dict[str, float]:
    """Scores of the network of a training that ends with this row.

    These are the average's where one holds something, under the names of the others.
    """
    own = {name: v for name, v in row.items() if not name.startswith(AVERAGED)}
    return own | {
        name.removeprefix(AVERAGED): value
        for name, value in row.items()
        if name.startswith(AVERAGED)
    }


def is_better(row: Mapping[str, float], than: Mapping[str, float], by: Metric) -> bool:
    """Whether the network of an epoch scores better than that of another one.

    Args:
        row: scores on the samples that are judged on.
        than: those of the other epoch; a score that is no number is worse than all.
        by: the metric that networks are judged by.
    """
    name = f"test_{by.name}"
    mine, other = (scores_of_trained(each)[name] for each in (row, than))
    if math.isnan(mine) or math.isnan(other):
        return math.isnan(other) and not math.isnan(mine)
    return mine < other if by.better == "smaller" else mine > other


@torch.no_grad()
def evaluate(
    model: nn.Module,
    samples: AbstractSamples,
    task: AbstractTask,
    *,
    batch_size: int | None = None,
    groups: Mapping[str, SampleGroup] | None = None,
) -> Score:
    """Score a network in eval mode; its modes are put back.

    One that carries its state reads pieces of one text from beginning to end.

    Args:
        model: gives outputs of the kind that the task is about.
        samples: N of them.
        task: gives the loss and the metrics.
        batch_size: samples at a time; None for those of `scored_rows`.
        groups: some of the samples, scored apart from the same outputs, by name.
    """
    groups = groups or {}
    whole, parts = _Sums(task), {name: _Sums(task) for name in groups}
    pieces = samples.pieces(batch_size or scored_rows(model, samples, task))
    for outputs, targets in _outputs(model, pieces, samples.contiguous):
        for name, batch in _of_groups(groups, outputs, targets, whole.samples):
            parts[name].add(*batch)
        whole.add(outputs, targets)
    scores = {name: sums.score() for name, sums in parts.items()}
    return replace(whole.score(), groups=scores)


def judge(model: nn.Module, samples: AbstractSamples, task: AbstractTask) -> Score:
    """Score a network on samples that it is judged on: its corpus metrics too.

    Args:
        model: gives outputs of the kind that the task is about.
        samples: N of them.
        task: gives the loss and the metrics.
    """
    score = evaluate(model, samples, task)
    corpus = task.corpus_scores(model, samples).estimates
    values = {name: estimate.value for name, estimate in corpus.items()}
    return replace(score, metrics={**score.metrics, **values})


@torch.no_grad()
def estimates(
    model: nn.Module,
    batches: Iterable[Batch],
    task: AbstractTask,
    groups: Mapping[str, SampleGroup] | None = None,
    *,
    contiguous: bool = False,
    also: Mapping[str, AbstractTask] | None = None,
) -> dict[str, Estimate]:
    """Loss and metrics with standard errors over samples, in eval mode.

    A mean over terms is a ratio of means over samples, whose error is that of the delta
    method: terms of one sample, such as the tokens of a text, are not independent.

    Args:
        model: gives outputs of the kind that the task is about.
        batches: inputs and targets.
        task: gives the loss and the metrics.
        groups: some of the samples, estimated apart from the same outputs, by name.
        contiguous: the samples of all batches are neighbouring pieces of one text,
            which a network that carries its state reads from beginning to end.
        also: tasks whose losses are estimated from the same outputs, by name.

    Returns:
        "loss" and the metrics by name; a share has its opposite after it. Those of a
        group follow, as "clean_loss".
    """
    groups = groups or {}
    whole, parts = _Terms(task, also), {name: _Terms(task) for name in groups}
    for outputs, targets in _outputs(model, batches, contiguous):
        for name, batch in _of_groups(groups, outputs, targets, whole.samples):
            parts[name].add(*batch)
        whole.add(outputs, targets)
    rows = whole.estimates()
    for name, terms in parts.items():
        rows |= {f"{name}_{key}": each for key, each in terms.estimates().items()}
    return rows


def _of_groups(
    groups: Mapping[str, SampleGroup], outputs: Any, targets: Tensor, first: int
) -> Iterator[tuple[str, tuple[Any, Tensor]]]:
    """Outputs and targets of the samples of a batch that are in each group.

    Args:
        groups: of all samples, by name.
        outputs: of a batch.
        targets: of the batch.
        first: position of its first sample.
    """
    rows = slice(first, first + len(targets))
    for name, group in groups.items():
        # On the host, so that no device is waited for.
        inside = group.chosen[rows].nonzero().flatten()
        if len(inside):
            own = group.targets[rows][inside].to(targets.device)
            yield name, (outputs[inside.to(targets.device)], own)


class _Sums:
    """Loss and metrics, summed batch by batch."""

    def __init__(self, task: AbstractTask) -> None:
        self.samples = 0
        self._task = task
        self._losses: list[Tensor] = []
        self._terms: list[Tensor] = []
        self._values: dict[str, list[Tensor]] = {}

    def add(self, outputs: Any, targets: Tensor) -> None:
        task = self._task
        self.samples += len(targets)
        self._losses.append(task.loss(outputs, targets, reduction="sum"))
        self._terms.append(task.terms(targets).sum())
        for name, each in task.metrics(outputs, targets).items():
            self._values.setdefault(name, []).append(each)

    def score(self) -> Score:
        task = self._task
        # Read when all is done, so that a device is waited for once.
        loss = sum(numbers(self._losses)) / sum(numbers(self._terms))
        joined = {name: torch.cat(each).cpu() for name, each in self._values.items()}
        means = {
            name: task.metric(name).of_mean(float(each.double().mean()))
            for name, each in joined.items()
        }
        wrong = None
        # Samples are independent, positions of one sequence are not.
        headline = task.headline
        if headline.share and len(joined[headline.name]) == self.samples:
            wrong = tuple(joined[headline.name].nonzero().flatten().tolist())
        return Score(loss, means, self.samples, wrong)


class _Terms:
    """Losses and metrics of single terms, gathered batch by batch."""

    def __init__(
        self, task: AbstractTask, also: Mapping[str, AbstractTask] | None = None
    ) -> None:
        self.samples = 0
        self._task = task
        self._also = also or {}
        self._counts: list[Tensor] = []
        self._values: dict[str, list[Tensor]] = {}

    def add(self, outputs: Any, targets: Tensor) -> None:
        task = self._task
        self.samples += len(targets)
        self._counts.append(task.terms(targets).cpu())
        losses = {
            name: of.loss(outputs, targets, reduction="none")
            for name, of in {"loss": task, **self._also}.items()
        }
        for name, each in {**losses, **task.metrics(outputs, targets)}.items():
            self._values.setdefault(name, []).append(each.cpu().double())

    def estimates(self) -> dict[str, Estimate]:
        terms = torch.cat(self._counts)
        joined = {name: torch.cat(each) for name, each in self._values.items()}
        rows = {
            n: mean_over_samples(joined.pop(n), terms) for n in ("loss", *self._also)
        }
        for name, each in joined.items():
            metric, mean = self._task.metric(name), mean_over_samples(each, terms)
            value = metric.of_mean(mean.value)
            slope = value if metric.link == "exp" else 1.0
            rows[name] = replace(mean, value=value, stderr=slope * mean.stderr)
            if metric.opposite:
                rows[metric.opposite] = mean_over_samples(1 - each, terms)
        return rows


def mean_over_samples(values: Tensor, terms: Tensor) -> Estimate:
    """Mean over the terms of all samples, with its error over the samples.

    Args:
        values: of all terms in the order of the samples, float64.
        terms: of each sample, (N,).
    """
    mean, samples = float(values.mean()), len(terms)
    owners = torch.arange(samples).repeat_interleave(terms)
    sums = torch.zeros(samples, dtype=torch.float64).index_add_(0, owners, values)
    apart = (sums - mean * terms) / terms.double().mean()
    stderr = float(apart.std()) / samples**0.5 if samples > 1 else math.inf
    return Estimate(value=mean, stderr=stderr, samples=samples)


def _outputs(
    model: nn.Module, batches: Iterable[Batch], contiguous: bool
) -> Iterator[tuple[Any, Tensor]]:
    """Outputs in eval mode and targets of each batch; modes are put back."""
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    moved = (on_device(batch, device) for batch in batches)
    try:
        if contiguous and isinstance(model, AbstractCarrying) and model.stateful:
            yield from as_one_stream(model, moved)
            return
        for inputs, targets in moved:
            yield model(inputs), targets
    finally:
        for module, mode in modes:
            module.training = mode
