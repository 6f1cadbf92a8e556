"""Members of a pack that stand at the same epoch, and an epoch of all of them.

Shape letters: K members, B batch, N training samples.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.stepping.driver import AbstractOptimizer
from steppe_lab.datasets import Split
from steppe_lab.datasets.samples import AbstractSamples, Batch, TensorSamples
from steppe_lab.training.packed.methods import Pass, method_of
from steppe_lab.training.packed.network import AbstractPackedNetwork
from steppe_lab.training.packed.scoring import evaluate_packed
from steppe_lab.training.packed.sgd import PackedSGD, give_momenta
from steppe_lab.training.packed.stack import Stack, own_memory
from steppe_lab.training.state import TrainingState

_READY = 2**24  # numbers of all inputs that are standardised once, at most


@dataclass(eq=False)
class Member:
    """A training that is a member of packs.

    Args:
        index: in the call.
        state: of the training.
    """

    index: int
    state: TrainingState

    @property
    def base(self) -> Optimizer:
        """The optimizer that takes its steps."""
        optimizer = self.state.optimizer
        if isinstance(optimizer, AbstractOptimizer):
            return optimizer.bases[0]
        return optimizer

    @property
    def scheduled(self) -> bool:
        """Whether settings of its method change from step to step."""
        method = self.state.recipe.optimizer
        values = method.settings.values() if method else ()
        return any(isinstance(value, str) for value in values)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return float(self.state.schedule(step) * self.state.lr_scale)

    def stand_at(self, step: int) -> None:
        """Let the optimizer be as it is before a step of the training alone."""
        optimizer = self.state.optimizer
        if isinstance(optimizer, AbstractOptimizer):
            optimizer.go_to(step)

    def leave(self) -> None:
        """Take weights, buffers and momenta out of the memory of a pack."""
        own_memory(self.state.model)
        give_momenta(self.base)


class TrainingBatches:
    """Training samples that members take their batches of.

    Args:
        samples: N of them.
    """

    def __init__(self, samples: AbstractSamples) -> None:
        self._samples = samples
        small = isinstance(samples, TensorSamples) and samples.stored.numel() <= _READY
        self._inputs = samples.inputs if small else None  # type: ignore[attr-defined]

    def take(self, rows: Tensor) -> Batch:
        """Inputs (K, B, ...) and targets (K, B, ...) at positions (K, B)."""
        flat = rows.flatten()
        if self._inputs is not None:
            inputs, targets = self._inputs[flat], self._samples.targets[flat]
        else:
            inputs, targets = self._samples.batch(flat)
        sizes = tuple(rows.shape)
        return (
            inputs.view(*sizes, *inputs.shape[1:]),
            targets.view(*sizes, *targets.shape[1:]),
        )


class Pack:
    """K members at the same epoch.

    Args:
        members: of one structure.
        form: of the packed network.
        batches: of the training samples.
    """

    def __init__(
        self,
        members: Sequence[Member],
        form: type[AbstractPackedNetwork],
        batches: TrainingBatches,
    ) -> None:
        self.members = list(members)
        self.stack = Stack([each.state.model for each in members])
        self.network = form(self.stack)
        self._sgd = PackedSGD(self.stack.params, [each.base for each in members])
        self._optimizers: list[Any] = [each.state.optimizer for each in members]
        first = members[0].state
        self._task, self._method = first.loss.task, method_of(first.recipe.optimizer)
        self._batches = batches
        # Members differ in it: one may have a number where another has a schedule.
        self._scheduled = any(member.scheduled for member in members)

    def train_epoch(self) -> list[dict[str, float]]:
        """The steps of the epoch that all members stand at; a row for each."""
        for member in self.members:
            for callback in member.state.callbacks.values():
                callback.before_epoch(member.state)
        first = self.members[0].state
        start = first.epochs.first_step(first.epoch)
        orders = [m.state.epochs.batches(m.state.epoch) for m in self.members]
        began = time.monotonic()
        losses, sizes, rates = [], [], [0.0] * len(self.members)
        for step, rows in enumerate(zip(*orders, strict=True), start):
            rates = [member.rate(step) for member in self.members]
            losses.append(self._step(torch.stack(rows), rates, step))
            sizes.append(len(rows[0]))
        weights = torch.tensor(sizes, dtype=torch.float64)
        means = torch.stack(losses).double().mul(weights[:, None]).sum(0)
        means /= weights.sum()
        share = max(time.monotonic() - began, 1e-9) / len(self.members)
        table = []
        for member, lr, mean in zip(self.members, rates, means.tolist(), strict=True):
            state = member.state
            state.samples_per_second = sum(sizes) / share
            state.gradients += self._method.passes * len(sizes)
            member.base.param_groups[0]["lr"] = lr
            member.stand_at(start + len(sizes))
            table.append({"epoch": state.epoch + 1, "lr": lr, "running_loss": mean})
        return table

    def step_on(self, rows: Tensor, step: int) -> Tensor:
        """One step of all members on samples at positions (K, B); their losses, (K,).

        Args:
            rows: positions of the batch of each member.
            step: counted from 0.
        """
        return self._step(rows, [member.rate(step) for member in self.members], step)

    def _step(self, rows: Tensor, rates: Sequence[float], step: int) -> Tensor:
        if self._scheduled:
            for member, lr in zip(self.members, rates, strict=True):
                member.base.param_groups[0]["lr"] = lr
                member.stand_at(step)
        inputs, targets = self._batches.take(rows)
        with torch.no_grad():
            here = Pass(self.network, self._task, inputs, targets)
            losses, grads = self._method(here, self.stack.params, self._optimizers)
            self._sgd.step(grads, rates)
        return losses

    def scores(self, split: Split) -> list[Mapping[str, float]]:
        """Scores of all members on both parts of the data."""
        first = self.members[0].state
        task, network = first.scored_loss.task, self.network
        train, test = first.resident["train"], first.resident["test"]
        trained = evaluate_packed(network, train, task, groups=split.train_groups)
        judged = evaluate_packed(network, test, task)
        return [
            one.row("train") | other.row("test")
            for one, other in zip(trained, judged, strict=True)
        ]
