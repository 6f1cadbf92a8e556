"""The cost of testing a claim, known before any work and without the files of the data.

Samples are counted as the data sets are published. A training costs one gradient of
each sample that its steps take, as often as its method evaluates one, and a forward
pass of all samples after each epoch that is scored. A measure costs what its facts
say, at its default settings, on the samples that it is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from steppe.cost import NOTHING, Cost
from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.studies.costs import published_samples
from steppe_lab.studies.estimating import TimeLeft, time_left

if TYPE_CHECKING:
    from steppe_lab.studies.stored import StoredStudy
    from steppe_lab.training.recipe import Recipe


@dataclass(frozen=True)
class RunCost:
    """The cost of one run.

    Args:
        finished: whether it is.
        trains: whether it is a training.
        gradients: of single samples, in a training.
        forwards: single samples passed forward for its scores.
        measured: work of measures, counted in single samples.
    """

    finished: bool
    trains: bool = False
    gradients: float = 0.0
    forwards: float = 0.0
    measured: Cost = NOTHING


@dataclass(frozen=True, kw_only=True)
class ClaimCost:
    """The runs that test a claim, and their cost, finished ones included.

    Args:
        claim: its name.
        cells: rows that are made.
        each: its runs, by their ids.
        repeated: trainings among them that claims before have too; they are done once.
        parameters: of the smallest and of the largest network; None where not known.
        time: that is left, by finished runs alike; None where none has finished.
        failure: the reason for which nothing of it can run; "" for none.
    """

    claim: str
    cells: int
    each: Mapping[str, RunCost] = field(default_factory=dict)
    repeated: int = 0
    parameters: tuple[int, int] | None = None
    time: TimeLeft | None = None
    failure: str = ""

    @property
    def runs(self) -> int:
        """Number of runs of all kinds."""
        return len(self.each)

    @property
    def trainings(self) -> int:
        """Networks that are trained."""
        return sum(run.trains for run in self.each.values())

    @property
    def finished(self) -> int:
        """Runs that are finished."""
        return sum(run.finished for run in self.each.values())

    @property
    def gradients(self) -> float:
        """Gradients of single samples in all trainings; NaN where they are not known.

        The size of some data sets is not known without their files.
        """
        return math.fsum(run.gradients for run in self.each.values())

    @property
    def forwards(self) -> float:
        """Single samples passed forward for scores; NaN as the gradients are."""
        return math.fsum(run.forwards for run in self.each.values())

    @property
    def measured(self) -> Cost:
        """Work of all measures, counted in single samples."""
        return sum((run.measured for run in self.each.values()), start=NOTHING)

    def to_dict(self, workers: int) -> dict[str, Any]:
        """All of it as JSON has it; None stands for a number that is not known."""
        known = math.isfinite(self.gradients)
        return {
            "claim": self.claim,
            "cells": self.cells,
            "trainings": self.trainings,
            "repeated": self.repeated,
            "runs": self.runs,
            "finished": self.finished,
            "gradients": self.gradients if known else None,
            "forwards": self.forwards if known else None,
            "measured": asdict(self.measured),
            "parameters": None if self.parameters is None else list(self.parameters),
            "time": None if self.time is None else self.time.to_dict(workers),
            "failure": self.failure,
        }


def cost_of(
    claim: AbstractClaim,
    request: Request,
    study: StoredStudy | None,
    before: Collection[str] = (),
) -> ClaimCost:
    """The cost of the cells of a claim that are asked for; nothing is read or written.

    Args:
        claim: the claim.
        request: what is asked of it.
        study: of its runs, from `claim.study`.
        before: ids of the trainings of claims before this one.
    """
    cells = len(claim.chosen(request))
    if study is None:
        return ClaimCost(claim=claim.name, cells=cells)
    plan, done = study.plan, study.store.is_finished
    each: dict[str, RunCost] = {}
    seen: dict[str, tuple[float, float, dict[str, Cost]]] = {}
    for run, trial in plan.items():
        # Trainings that differ in the seed alone cost the same.
        key = trial.recipe.model_copy(update={"seed": 0}).model_dump_json()
        if key not in seen:
            measured = {
                name: _of_measures(record, trial.recipe)
                for name, record in plan.followers(run).items()
            }
            seen[key] = (*_of_training(trial.recipe), measured)
        gradients, forwards, measured = seen[key]
        each[run] = RunCost(done(run), True, gradients, forwards)
        for name, follower in study.study.followers(run).items():
            each[follower] = RunCost(done(follower), measured=measured[name])
    counts = list(_parameters([trial.recipe for trial in plan.values()]))
    return ClaimCost(
        claim=claim.name,
        cells=cells,
        each=each,
        repeated=sum(run in before for run in plan),
        parameters=(min(counts), max(counts)) if counts else None,
        time=time_left(study.study),
    )


def total_of(costs: Sequence[ClaimCost]) -> ClaimCost:
    """The cost of several claims together; runs that two of them share count once."""
    known = [each.parameters for each in costs if each.parameters is not None]
    least = min((low for low, _ in known), default=0)
    most = max((high for _, high in known), default=0)
    return ClaimCost(
        claim="all",
        cells=sum(each.cells for each in costs),
        each={run: cost for claim in costs for run, cost in claim.each.items()},
        repeated=sum(each.repeated for each in costs),
        parameters=(least, most) if known else None,
    )


def _of_training(recipe: Recipe) -> tuple[float, float]:
    """Gradients and forward passes of single samples in a training."""
    from steppe.optimizers import OPTIMIZERS
    from steppe_lab.training.epochs import Epochs

    samples = published_samples(recipe)
    if samples is None:
        return math.nan, math.nan
    method = recipe.optimizer
    each = OPTIMIZERS[method.name].spec.grad_evals if method else 1.0
    train, test = samples
    epochs = Epochs.of(recipe, train)
    scored = sum(epochs.scored(epoch + 1) for epoch in range(epochs.count))
    return each * epochs.count * epochs.taken, float(scored * (train + test))


def _of_measures(record: Mapping[str, Any], recipe: Recipe) -> Cost:
    """Work of the measures of a run that follows a training, in single samples."""
    from steppe.measures import MEASURES

    known = published_samples(recipe)
    train = math.inf if known is None else known[0]
    total = NOTHING
    samples = min(record.get("samples") or 0, train)
    for choice in record.get("measures", ()):
        total += MEASURES[choice["name"]].spec.cost.scaled(samples)
    return total


def _parameters(recipes: list[Recipe]) -> Iterator[int]:
    """Numbers of parameters of the networks whose sizes are known without data."""
    from steppe.errors import SteppeError
    from steppe_lab.datasets.abstract import size_of
    from steppe_lab.models import MODELS
    from steppe_lab.models.model_registry import without_values

    seen: set[tuple[str, str]] = set()
    for recipe in recipes:
        key, size = (str(recipe.model), str(recipe.data)), size_of(recipe.data)
        if size is None or key in seen:
            continue
        seen.add(key)
        if MODELS[recipe.model.name].spec.built_elsewhere:
            continue
        try:
            with without_values():
                network = MODELS.build(recipe.model, size.in_shape, size.outputs)
        except SteppeError:  # said where the claim is run
            continue
        yield sum(math.prod(each.shape) for each in network.parameters())
