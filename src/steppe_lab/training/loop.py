"""The training loop: a recipe and its samples in, a trained network and history out.

An epoch has stages, each a function below: the order of the samples; then, batch by
batch, fetch, step and observe; then the scores. Loss and metrics are those of the task.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steppe.averaging import AVERAGES
from steppe.errors import SettingError, SteppeError
from steppe.seeds import seed_of, stream
from steppe.stepping.driver import AbstractOptimizer
from steppe_lab.datasets import AbstractSamples, Split
from steppe_lab.datasets.samples import Batch, on_device
from steppe_lab.datasets.seeding import host_seeded
from steppe_lab.progress import Progress, Report
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.build import (
    fit_statistics,
)
from steppe_lab.training.evaluation import AVERAGED, evaluate
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState

KEEP_EVERY = 10.0  # seconds between states to resume from


class TrainingFailedError(SteppeError, ArithmeticError):
    """Training that cannot go on, such as a loss that is no number.

    It follows from the recipe, so trying again changes nothing.
    """


@dataclass(frozen=True)
class Trained:
    """A trained network and one row per epoch."""

    model: nn.Module
    history: list[dict[str, float]]  # scores only of epochs that were scored
    seconds: float  # of training, those before a stop included
    gradients: float  # of the whole batch per step, counted; see `_gradients`
    tracked: list[dict[str, float]] = field(default_factory=list)  # its rows


def train(
    recipe: Recipe,
    split: Split,
    *,
    report: Report | None = None,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
    keep_every: float = KEEP_EVERY,
    folder: Path | None = None,
) -> Trained:
    """Train a network from its initial weights, or from where a saved state left it.

    The result follows from the recipe and the samples alone: stopping and resuming
    changes no bit. With an average the network given back is the average, unless
    nothing went into it.

    Args:
        recipe: all settings.
        split: samples to train and to judge on.
        report: called with the progress, after every epoch.
        resume: a state that `keep` was given, to continue from.
        keep: called with the state now and then, to resume from after a stop.
        keep_every: seconds between two states, at least; 0 is every epoch.
        folder: where a tracker keeps its files; None for none.

    Raises:
        TrainingFailedError: the training loss became NaN or infinite.
    """
    state = TrainingState.fresh(recipe, split, folder)
    if resume is not None and not state.load(resume):
        if report is not None:
            text = "the state that was kept cannot be used: training begins anew"
            report(Progress(text=text))
        state = TrainingState.fresh(recipe, split, folder)
    start = saved = time.monotonic()
    spent = state.seconds
    devices = [torch.device(recipe.device)] if "cuda" in recipe.device else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(recipe.seed)
        state.put_back_rng()
        if state.following is not None:
            state.following.begin()
        while state.epoch < recipe.epochs:
            # By the epoch, so that a resumed training draws what a straight one does.
            with host_seeded(seed_of(recipe.seed, state.epoch) % 2**32):
                row = _train_epoch(state, split)
            state.history.append(row)
            state.epoch += 1
            if state.following is not None:
                with _following(state.epoch):
                    state.following.after_epoch(row)
            state.seconds = spent + time.monotonic() - start
            if report is not None:
                text = f"epoch {state.epoch}/{recipe.epochs}"
                report(Progress(state.epoch, recipe.epochs, text))
            due = time.monotonic() - saved >= keep_every
            if keep is not None and due and state.epoch < recipe.epochs:
                keep(state.to_bytes())
                saved = time.monotonic()
    state.apply_average(split)
    gradients = _gradients(state, split)
    tracked = state.following.tracker.rows if state.following else []
    return Trained(state.model, state.history, state.seconds, gradients, tracked)


def _train_epoch(state: TrainingState, split: Split) -> dict[str, float]:
    """The stages of an epoch: order, then fetch, step and observe, then score."""
    recipe, samples = state.recipe, split.train
    state.model.train()
    total, terms = 0.0, 0
    lr = 0.0
    first = state.epoch * state.steps_per_epoch
    order = _order(recipe.seed, state.epoch, len(samples))
    for step, rows in enumerate(torch.split(order, recipe.batch_size), first):
        batch = _fetch(state, samples, rows, step)
        lr = _set_lr(state, step)
        loss, gradients = _step(state, samples, batch)
        weight = int(state.task.terms(batch[1]).sum())
        total, terms = total + weight * loss, terms + weight
        state.gradients += gradients
        _observe(state)
    epoch, mean = state.epoch + 1, total / terms
    _check_finite("running training", mean, epoch)
    # The running loss is over the steps of the epoch, in train mode.
    row = {"epoch": epoch, "lr": lr, "running_loss": mean}
    return row | _score(state, split) if recipe.scores(epoch) else row


def _order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of samples in one epoch, from the seed and the epoch alone."""
    return torch.randperm(samples, generator=stream(seed, epoch))


def _fetch(
    state: TrainingState, samples: AbstractSamples, rows: Tensor, step: int
) -> Batch:
    """Samples as a batch on the device, augmented where the recipe says so."""
    if state.augmented is not None:
        return state.augmented.fetch(rows, step)
    return on_device(samples.batch(rows), state.recipe.device)


def _set_lr(state: TrainingState, step: int) -> float:
    """The learning rate of a step, in every group of parameters."""
    lr = state.schedule(step)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    return lr


def _step(
    state: TrainingState, samples: AbstractSamples, batch: Batch
) -> tuple[float, float]:
    """One optimizer step on a batch.

    Returns:
        The loss before it, and the gradients it took; that of a micro-batch counts as
        the fraction of the batch that it is.
    """
    optimizer, size = state.optimizer, len(batch[1])
    places = torch.arange(size)
    passed = 0  # rows

    def closure() -> float:
        nonlocal passed
        optimizer.zero_grad()
        inputs, targets = batch
        if isinstance(optimizer, AbstractOptimizer):
            rows = optimizer.take(places)
            if len(rows) < size:
                inputs, targets = samples.micro_batch(batch, rows)
        passed += len(targets)
        loss = _loss(state.task, state.model(inputs), targets, batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()  # type: ignore[return-value]

    return float(optimizer.step(closure)), passed / size


def _loss(task: AbstractTask, outputs: Any, own: Tensor, targets: Tensor) -> Tensor:
    """Mean loss of a micro-batch, for an optimizer that weighs micro-batches by rows.

    Where samples have unlike numbers of terms, as sequences have, it is scaled so that
    the sum over the micro-batches is the mean over the terms of the batch.

    Args:
        task: gives the loss and its terms.
        outputs: of the micro-batch.
        own: targets of the micro-batch.
        targets: those of the batch.
    """
    if len(own) < len(targets):
        terms, all_terms = int(task.terms(own).sum()), int(task.terms(targets).sum())
        if terms * len(targets) != all_terms * len(own):
            total = task.loss(outputs, own, reduction="sum")
            return total * (len(targets) / (len(own) * all_terms))
    return task.loss(outputs, own, reduction="mean")


def _observe(state: TrainingState) -> None:
    """Let the tracker count a step whose gradient is still there."""
    if state.following is not None:
        with _following(state.epoch + 1):
            state.following.after_step()


def _score(state: TrainingState, split: Split) -> dict[str, float]:
    """Losses and errors of the network, and of the average if it holds anything."""
    recipe, model, average = state.recipe, state.model, state.average
    scores = _on_both(state, split)
    # The test loss is a finding: it may be infinite where training went well.
    _check_finite("final training", scores["train_loss"], state.epoch + 1)
    if recipe.average is None or average is None:
        return scores
    if AVERAGES[recipe.average.name].spec.validates:
        _check_finite("validation", scores["test_loss"], state.epoch + 1)
        average.validate(scores["test_loss"])  # type: ignore[attr-defined]
    if not average.count:
        return scores
    with average.applied():
        fit_statistics(recipe, model, split.train)
        averaged = _on_both(state, split)
    return scores | {f"{AVERAGED}{name}": value for name, value in averaged.items()}


def _on_both(state: TrainingState, split: Split) -> dict[str, float]:
    row: dict[str, float] = {}
    for part, samples in (("train", split.train), ("test", split.test)):
        row |= evaluate(state.model, samples, state.task).row(part)
    return row


def _check_finite(name: str, loss: float, epoch: int) -> None:
    if not math.isfinite(loss):
        raise TrainingFailedError(
            f"the {name} loss became {loss} in epoch {epoch}; lower the learning rate "
            "or the radius."
        )


@contextmanager
def _following(epoch: int) -> Iterator[None]:
    """Eigenvalues that do not exist are a failure of the training."""
    try:
        yield
    except SettingError as error:
        reason = str(error).partition(";")[0]
        raise TrainingFailedError(
            f"the spectrum could not be followed in epoch {epoch} ({reason}); lower "
            "the learning rate or the radius."
        ) from error


def _gradients(state: TrainingState, split: Split) -> float:
    """Gradients of a batch per step, with those that lead a method.

    A product with the Hessian counts as two gradients of its samples. Where nothing is
    led by what a tracker finds, its products are no part of the method.
    """
    recipe, spent = state.recipe, state.gradients
    if recipe.track is not None and state.following is not None:
        samples = min(recipe.track.settings["samples"], len(split.train))
        spent += 2 * state.following.products * samples / recipe.batch_size
    return spent / (recipe.epochs * state.steps_per_epoch)
