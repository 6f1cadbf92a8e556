"""The training loop: a recipe and its samples in, a trained network and history out.

An epoch has stages: the order of the samples (`epochs.py`); then, batch by batch, fetch
and step (`step.py`); then the scores (`scoring.py`). Callbacks act between them
(`callbacks/`). Loss and metrics are those of the task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steppe.seeds import seed_of
from steppe_lab.datasets import Split
from steppe_lab.datasets.seeding import host_seeded
from steppe_lab.progress import Progress, Report
from steppe_lab.training.failures import check_finite
from steppe_lab.training.processes import Processes, joined
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.scoring import score
from steppe_lab.training.starts import Start
from steppe_lab.training.state import TrainingState
from steppe_lab.training.step import fetch, take_step
from steppe_lab.transfer import numbers

KEEP_EVERY = 10.0  # seconds between states to resume from


@dataclass(frozen=True)
class Trained:
    """A trained network and one row per epoch."""

    model: nn.Module
    history: list[dict[str, float]]  # scores only of epochs that were scored
    seconds: float  # of training, those before a stop included
    gradients: float  # of the whole batch per step, counted; see `_gradients`
    results: Mapping[str, Any] = field(default_factory=dict)  # of the callbacks
    best_epoch: int = 0  # counted from 1, by the scores that networks are judged by
    stopped: str = ""  # why it ended before its last epoch; "" where it did not


def train(
    recipe: Recipe,
    split: Split,
    *,
    report: Report | None = None,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
    keep_every: float = KEEP_EVERY,
    folder: Path | None = None,
    start: Start | None = None,
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
        folder: where callbacks keep their files; None for none.
        start: weights to begin with; None for those that the seed gives.

    Raises:
        CheckpointError: weights to begin with that do not fit the network.
        TrainingFailedError: the training loss became NaN or infinite.
        LostProcessError: another process of the training ended.
    """
    with joined(recipe) as processes:
        return _train(
            recipe,
            split,
            processes,
            report=report,
            resume_from=resume,
            keep=keep,
            keep_every=keep_every,
            folder=folder,
            start=start,
        )


def _train(
    recipe: Recipe,
    split: Split,
    processes: Processes,
    *,
    report: Report | None,
    resume_from: bytes | None,
    keep: Callable[[bytes], None] | None,
    keep_every: float,
    folder: Path | None,
    start: Start | None,
) -> Trained:
    resume = processes.of_first(lambda: resume_from)
    state = TrainingState.fresh(recipe, split, folder, start, processes)
    if resume is not None and not processes.all(state.load(resume)):
        if report is not None:
            text = "the state that was kept cannot be used: training begins anew"
            report(Progress(text=text))
        state = TrainingState.fresh(recipe, split, folder, start, processes)
    began = saved = time.monotonic()
    spent, epochs = state.seconds, state.epochs.count
    devices = [torch.device(recipe.device)] if "cuda" in recipe.device else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(processes.seed(recipe.seed))
        state.put_back_rng()
        state.gather()
        for callback in state.callbacks.values():
            callback.begin(state)
        while state.goes_on:
            # By the epoch, so that a resumed training draws what a straight one does.
            with host_seeded(seed_of(recipe.seed, state.epoch) % 2**32):
                row = train_epoch(state, split)
            close_epoch(state, row, spent + time.monotonic() - began)
            if report is not None:
                text = f"epoch {state.epoch}/{epochs}"
                end = epochs if state.goes_on else state.epoch  # a rule may stop it
                report(
                    Progress(state.epoch, end, text, row=state.shown, texts=state.texts)
                )
            due = time.monotonic() - saved >= keep_every
            if keep is not None and due and state.goes_on:
                keep(state.to_bytes())
                saved = time.monotonic()
    if processes.leads:
        state.apply_average(split)
    state.seconds = spent + time.monotonic() - began
    return trained(state)


def close_epoch(state: TrainingState, row: dict[str, float], seconds: float) -> None:
    """Add an epoch that is over to a training, and let the callbacks act.

    Args:
        state: of the training.
        row: numbers of the epoch.
        seconds: of the training so far.
    """
    state.history.append(row)
    state.epoch += 1
    state.seconds = seconds
    state.gather()
    for callback in state.callbacks.values():
        callback.after_epoch(state, row)


def trained(state: TrainingState) -> Trained:
    """The outcome of a training that is over."""
    results: dict[str, Any] = {}
    for callback in state.callbacks.values():
        results |= callback.results
    return Trained(
        state.model,
        state.history,
        state.seconds,
        _gradients(state),
        results,
        state.best_epoch,
        state.stopped,
    )


def train_epoch(state: TrainingState, split: Split) -> dict[str, float]:
    """The stages of an epoch: order, then fetch and step, then score."""
    for callback in state.callbacks.values():
        callback.before_epoch(state)
    state.model.train()
    if state.carry is not None:
        state.carry.clear()
    losses: list[Tensor | float] = []
    weights: list[int] = []
    began, taken = time.monotonic(), 0
    lr = 0.0
    first = state.epochs.first_step(state.epoch)
    for step, rows in enumerate(state.epochs.batches(state.epoch), first):
        batch = fetch(state, rows, step)
        # Counted on the host, where no device is waited for.
        terms = state.task.terms_of(split.train, rows)
        lr = _set_lr(state, step)
        loss, gradients = take_step(state, split.train, batch, terms)
        losses.append(loss)
        weights.append(int(terms.sum()))
        taken += len(rows)
        state.gradients += gradients * state.epochs.batches_per_step
        for callback in state.callbacks.values():
            callback.after_step(state, step, loss)
    epoch, mean = state.epoch + 1, _mean(losses, weights)
    # The mean has waited for the device.
    state.samples_per_second = taken / max(time.monotonic() - began, 1e-9)
    check_finite("running training", mean, epoch)
    # The running loss is over the steps of the epoch, in train mode.
    row = {"epoch": epoch, "lr": lr, "running_loss": mean} | state.precision.row()
    row |= state.clip.row()
    return row | score(state, split) if state.epochs.scored(epoch) else row


def _set_lr(state: TrainingState, step: int) -> float:
    """The learning rate of a step, in every group of parameters."""
    lr = state.schedule(step) * state.lr_scale
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    for callback in state.callbacks.values():
        callback.before_step(state, step)
    return lr


def _mean(losses: Sequence[Tensor | float], weights: Sequence[int]) -> float:
    """Weighted mean of the losses of an epoch."""
    total = 0.0
    for weight, loss in zip(weights, numbers(losses), strict=True):
        total += weight * loss
    return total / sum(weights)


def _gradients(state: TrainingState) -> float:
    """Gradients of a batch per step, with those that lead a method."""
    extra = sum(each.extra_gradients for each in state.callbacks.values())
    return (state.gradients + extra) / state.epochs.first_step(state.epoch)
