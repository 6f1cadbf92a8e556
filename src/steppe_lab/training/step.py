"""One step of a training: the batch, the passes and the loss of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.stepping.driver import AbstractOptimizer
from steppe_lab.datasets import AbstractSamples
from steppe_lab.datasets.samples import Batch, on_device
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.clipping import Clipping
from steppe_lab.training.network import channels_last
from steppe_lab.training.precision import Precision

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

NO_CLIPPING = Clipping()


def fetch(state: TrainingState, rows: Tensor, step: int) -> Batch:
    """Training samples as a batch on the device, augmented where the recipe says so."""
    if state.augmented is not None:
        inputs, targets = state.augmented.fetch(rows, step)
    else:
        inputs, targets = on_device(
            state.resident["train"].batch(rows), state.recipe.device
        )
    return channels_last(inputs) if state.recipe.channels_last else inputs, targets


def take_step(
    state: TrainingState, samples: AbstractSamples, batch: Batch, terms: Tensor
) -> tuple[Tensor | float, float]:
    """One optimizer step on a batch; no device is waited for.

    Args:
        state: of the training.
        samples: that the batch is of.
        batch: on the device.
        terms: number of terms of each sample in the mean loss, (B,), on the host.

    Returns:
        The loss before it, as the optimizer gives it, and the gradients it took; that
        of a micro-batch counts as the fraction of the batch that it is.
    """
    optimizer, size = state.optimizer, len(terms)
    places, all_terms = torch.arange(size), int(terms.sum())
    passed = 0  # rows

    def closure() -> Tensor:
        nonlocal passed
        optimizer.zero_grad()
        (inputs, targets), own_terms = batch, all_terms
        if isinstance(optimizer, AbstractOptimizer):
            rows = optimizer.take(places)
            if len(rows) < size:
                inputs, targets = samples.micro_batch(batch, rows)
                own_terms = int(terms[rows].sum())
        passed += len(targets)
        scale = micro_batch_scale(len(targets), size, own_terms, all_terms)
        with state.precision.autocast():
            outputs = state.called(inputs)
            loss = micro_batch_loss(state.loss.task, outputs, targets, scale)
        # Outside of autocast: squares of small weights vanish in float16.
        loss = state.loss.penalised(loss, state.model)
        state.precision.backward(loss)
        return loss.detach()

    loss = step_with(optimizer, closure, state.precision, state.clip)
    return loss, passed / size


def step_with(
    optimizer: Optimizer,
    closure: Callable[[], Tensor],
    precision: Precision,
    clip: Clipping = NO_CLIPPING,
) -> Tensor | float:
    """Step with the gradient that a method chooses, completed as the training asks.

    Args:
        optimizer: takes the step.
        closure: evaluates loss and gradient at the present weights; called per pass.
        precision: completes the gradient, and skips steps that overflow.
        clip: clips the completed gradient.

    Returns:
        The loss before the step.
    """
    if isinstance(optimizer, AbstractOptimizer):
        for _ in optimizer.passes():
            optimizer.report(closure())
        precision.complete_gradient(optimizer)
        clip(optimizer)
        precision.step(optimizer)
        return optimizer.loss

    def completed() -> Tensor:
        loss = closure()
        precision.complete_gradient(optimizer)
        clip(optimizer)
        return loss

    if precision.scaler is None:  # code of the user may evaluate as often as it likes
        return optimizer.step(completed)  # type: ignore[arg-type]
    loss = completed()
    precision.step(optimizer)
    return loss


def micro_batch_scale(rows: int, size: int, terms: int, all_terms: int) -> float | None:
    """Factor of the summed loss of a micro-batch; None where its mean will do.

    Optimizers weigh micro-batches by their rows. Where samples have unlike numbers of
    terms, as sequences have, the sum over the micro-batches of the scaled losses is the
    mean over the terms of the batch.

    Args:
        rows: samples of the micro-batch.
        size: samples of the batch.
        terms: of the micro-batch.
        all_terms: of the batch.
    """
    if terms * size == all_terms * rows:
        return None
    return size / (rows * all_terms)


def micro_batch_loss(
    task: AbstractTask, outputs: Any, targets: Tensor, scale: float | None
) -> Tensor:
    """Loss of a micro-batch, which optimizers weigh by its rows.

    Args:
        task: gives the loss.
        outputs: of the micro-batch.
        targets: of the micro-batch.
        scale: that of `micro_batch_scale`.
    """
    if scale is None:
        return task.loss(outputs, targets, reduction="mean")
    return task.loss(outputs, targets, reduction="sum") * scale
