"""One step of a training: the batch, the closure and the loss of a micro-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steppe.stepping.driver import AbstractOptimizer
from steppe_lab.datasets import AbstractSamples
from steppe_lab.datasets.samples import Batch, on_device
from steppe_lab.tasks import AbstractTask

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


def fetch(
    state: TrainingState, samples: AbstractSamples, rows: Tensor, step: int
) -> Batch:
    """Samples as a batch on the device, augmented where the recipe says so."""
    if state.augmented is not None:
        return state.augmented.fetch(rows, step)
    return on_device(samples.batch(rows), state.recipe.device)


def take_step(
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
        loss = micro_batch_loss(state.task, state.model(inputs), targets, batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()  # type: ignore[return-value]

    return float(optimizer.step(closure)), passed / size


def micro_batch_loss(
    task: AbstractTask, outputs: Any, own: Tensor, targets: Tensor
) -> Tensor:
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
