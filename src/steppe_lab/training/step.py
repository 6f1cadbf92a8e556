"""One step of a training: the batch, the passes and the loss of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel as Parallel
from torch.optim import Optimizer

from steppe.stepping.driver import AbstractOptimizer
from steppe_lab.datasets import AbstractSamples
from steppe_lab.datasets.samples import Batch, on_device, standardised_once
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.clipping import Clipping
from steppe_lab.training.network import channels_last
from steppe_lab.training.precision import Precision
from steppe_lab.training.sharing import Part

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

NO_CLIPPING = Clipping()


def fetch(state: TrainingState, rows: Tensor, step: int) -> Batch:
    """Training samples as a batch on the device, augmented where the recipe says so.

    Of several processes each gets the parts of the batch that are its own. Where the
    network carries a state, that is beside the tokens.
    """
    several = state.processes.count > 1
    if state.augmented is not None:
        inputs, targets = state.augmented.fetch(rows, step)
        if several:  # the draws are those of the whole batch
            mine = state.sharing.rows(len(rows)).to(targets.device)
            inputs, targets = inputs[mine], targets[mine]
    else:
        mine = rows[state.sharing.rows(len(rows))] if several else rows
        batch = standardised_once(state.resident["train"]).batch(mine)
        inputs, targets = on_device(batch, state.recipe.device)
    if state.carry is not None:
        return state.carry.begin((inputs, targets))
    return channels_last(inputs) if state.recipe.channels_last else inputs, targets


def take_step(
    state: TrainingState, samples: AbstractSamples, batch: Batch, terms: Tensor
) -> tuple[Tensor | float, float]:
    """One optimizer step on a batch; no device is waited for.

    Args:
        state: of the training.
        samples: that the batch is of.
        batch: on the device; of several processes, the share of this one.
        terms: number of terms of each sample in the mean loss of the whole batch, (B,),
            on the host.

    Returns:
        The loss before it, as the optimizer gives it, and the gradients it took; that
        of a micro-batch counts as the fraction of the batch that it is.
    """
    parts = state.sharing.parts(len(terms))
    ends = list(accumulate(len(part.rows) for part in parts))
    passes = [
        _Passes(state, samples, own, part, terms)
        for part, own in zip(parts, _split(samples, batch, ends), strict=True)
    ]
    loss = step_with(
        state.optimizer, passes, state.precision, state.clip, _unsynchronised(state)
    )
    if state.processes.count > 1:
        loss = state.processes.mean(loss, state.recipe.device)
        state.processes.share_buffers(state.model)
    return loss, sum(each.passed for each in passes) / ends[-1]


def _split(
    samples: AbstractSamples, batch: Batch, ends: Sequence[int]
) -> Iterator[Batch]:
    """A batch in parts that end at some rows, which are looked at one by one."""
    if len(ends) == 1:
        yield batch
        return
    for start, end in pairwise([0, *ends]):
        yield samples.micro_batch(batch, torch.arange(start, end))


def _unsynchronised(state: TrainingState) -> Callable[[], AbstractContextManager[Any]]:
    """Surroundings of gradients that stay in this process until more are added."""
    called = state.called
    return called.no_sync if isinstance(called, Parallel) else nullcontext


class _Passes:
    """Loss and gradient of a part of a batch, once for each call.

    Args:
        state: of the training.
        samples: that the batch is of.
        batch: the part, on the device.
        part: says what counts in it.
        terms: of each sample of the whole batch, (B,).
    """

    def __init__(
        self,
        state: TrainingState,
        samples: AbstractSamples,
        batch: Batch,
        part: Part,
        terms: Tensor,
    ) -> None:
        self._state, self._samples, self._batch = state, samples, batch
        self._part, self._counts = part, part.counted(terms)
        # Terms of the batch, if all of it were as full of samples as the part.
        every = int(terms.sum())
        self._terms = every * part.weight / state.processes.count
        whole = self._counts is terms
        self._own = every if whole else int(self._counts.sum())
        self.passed = 0  # rows

    def __call__(self) -> Tensor:
        state, part, size = self._state, self._part, len(self._part.rows)
        (inputs, targets), rows = self._batch, self._part.places
        if isinstance(state.optimizer, AbstractOptimizer):
            rows = state.optimizer.take(rows)
            if len(rows) < size:
                inputs, targets = self._samples.micro_batch(self._batch, rows)
        else:
            state.optimizer.zero_grad()
        self.passed += len(rows)
        own_terms = self._own
        if len(rows) < size:
            own_terms = int(self._counts[rows].sum())
        scale = micro_batch_scale(len(rows), size, own_terms, self._terms)
        with state.precision.autocast():
            outputs = state.called(inputs)
            if state.carry is not None:
                outputs, after = outputs
                state.carry.end(part.rows[rows], after)
            if part.real < size:
                real = int((rows < part.real).sum())
                outputs, targets = outputs[:real], targets[:real]
            loss = micro_batch_loss(state.loss.task, outputs, targets, scale)
        # Outside of autocast: squares of small weights vanish in float16.
        loss = state.loss.penalised(loss, state.model)
        if part.weight != 1:
            loss = loss * part.weight
        state.precision.backward(loss)
        return loss.detach()


def step_with(
    optimizer: Optimizer,
    closures: Sequence[Callable[[], Tensor]],
    precision: Precision,
    clip: Clipping = NO_CLIPPING,
    unsynchronised: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor | float:
    """Step with the gradient that a method chooses, completed as the training asks.

    Args:
        optimizer: takes the step.
        closures: of each part of the batch that is perturbed by itself: evaluates loss
            and gradient at the present weights, once per pass.
        precision: completes the gradient, and skips steps that overflow.
        clip: clips the completed gradient.
        unsynchronised: surroundings of all parts but the last.

    Returns:
        The loss before the step, summed over the parts.
    """
    if isinstance(optimizer, AbstractOptimizer):
        loss: Tensor | float = 0.0
        several = len(closures) > 1
        if several:
            optimizer.zero_grad()
        for closure in closures:
            last = closure is closures[-1]
            with nullcontext() if last else unsynchronised():
                for _ in optimizer.passes(accumulate=several):
                    optimizer.report(closure())
            loss = loss + optimizer.loss if several else optimizer.loss
        precision.complete_gradient(optimizer)
        clip(optimizer)
        precision.step(optimizer)
        return loss
    (closure,) = closures

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


def micro_batch_scale(
    rows: int, size: int, terms: int, all_terms: float
) -> float | None:
    """Factor of the summed loss of a micro-batch; None where its mean will do.

    Optimizers weigh micro-batches by their rows. Where samples have unlike numbers of
    terms, as sequences have, the sum over the micro-batches of the scaled losses is the
    mean over the terms of the batch.

    Args:
        rows: samples of the micro-batch.
        size: samples of the batch.
        terms: of the micro-batch.
        all_terms: of the batch; 0 where nothing in it counts.
    """
    if not all_terms:
        return 0.0
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
