"""The state of a training: all that it goes on from, and its file to resume from.

A state with one wrong bit would load and train another network, so a file is sealed
with a checksum, which is compared before anything else is read.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steppe.averaging import AbstractAverage
from steppe.errors import CheckpointError
from steppe.schedules import StepSchedule
from steppe.torch_internals import tree_map
from steppe_lab.datasets import AbstractSamples, Split
from steppe_lab.datasets.samples import on_device, resident
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training.augmenting import AugmentedBatches
from steppe_lab.training.build import (
    build_augmented,
    build_average,
    build_lr_schedule,
    build_model,
    build_optimizer,
    fit_statistics,
)
from steppe_lab.training.callbacks.abstract import AbstractCallback
from steppe_lab.training.callbacks.order import build_callbacks
from steppe_lab.training.carrying import Carry
from steppe_lab.training.clipping import Clipping
from steppe_lab.training.epochs import Epochs, lengths_for
from steppe_lab.training.network import called_network, parallel_network
from steppe_lab.training.precision import Precision
from steppe_lab.training.processes import ALONE, Processes, on_host
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.sharing import Sharing
from steppe_lab.training.trained_loss import TrainedLoss

if TYPE_CHECKING:
    from steppe_lab.training.starts import Start

_HEAD = b"steppe training state 5\n"
_DIGITS = 64  # of a SHA-256


@dataclass
class TrainingState:
    """All that training goes on from at the start of an epoch."""

    recipe: Recipe
    model: nn.Module
    called: nn.Module  # by a step, in its place
    optimizer: Optimizer
    average: AbstractAverage | None
    schedule: StepSchedule
    data: str  # fingerprint of the samples
    task: AbstractTask
    loss: TrainedLoss
    scored_loss: TrainedLoss
    epochs: Epochs
    precision: Precision
    clip: Clipping
    sharing: Sharing  # of batches
    resident: Mapping[str, AbstractSamples]  # "train" and "test", on the device if so
    epoch: int = 0  # of those that are over
    history: list[dict[str, float]] = field(default_factory=list)
    callbacks: dict[str, AbstractCallback] = field(default_factory=dict)
    augmented: AugmentedBatches | None = None  # of the training samples
    carry: Carry | None = None  # of the state of the network
    seconds: float = 0.0  # so far
    gradients: float = 0.0  # so far, of whole batches
    lr_scale: float = 1.0  # the schedule's learning rate is multiplied by it
    stopped: str = ""  # why no further epoch begins; "" where one does
    converged_at: int | None = None  # first epoch that met a rule, counted from 1
    samples_per_second: float = 0.0  # in the steps of the last epoch
    shown: Mapping[str, float] = field(default_factory=dict)  # row of the table
    texts: Mapping[str, str] = field(default_factory=dict)  # of a sample, by name
    best_epoch: int = 0  # of those that were scored, counted from 1; 0 before the first
    rng: Tensor | None = None
    cuda_rng: Tensor | None = None
    apart: Sequence[Mapping[str, Any]] = ()  # `own_state` of every process

    @classmethod
    def fresh(
        cls,
        recipe: Recipe,
        split: Split,
        folder: Path | None,
        start: Start | None = None,
        processes: Processes = ALONE,
    ) -> TrainingState:
        """The state before the first step.

        Args:
            recipe: all settings.
            split: samples to train and to judge on.
            folder: where callbacks keep their files; None for none.
            start: weights to begin with; None for those that the seed gives.
            processes: that train together.

        Raises:
            CheckpointError: the weights do not fit the network, or their optimizer the
                base.
        """
        model = build_model(recipe, split.in_shape, split.outputs)
        if start is not None:  # before an average copies the weights
            start.put_into(model, recipe)
        called = called_network(model, recipe)
        sharing = Sharing.of(recipe, processes)
        if processes.count > 1:
            inputs, _ = on_device(split.train.batch(slice(0, 2)), recipe.device)
            called = parallel_network(called, inputs)
        samples = len(split.train)
        device = torch.device(recipe.device)
        near = {
            "train": resident(split.train, device),
            "test": resident(split.test, device),
        }
        precision = Precision(recipe.amp, recipe.device)
        optimizer = build_optimizer(
            recipe,
            called if processes.count > 1 else model,
            samples,
            scaler=precision.scaler,
            sync=sharing.sync,
        )
        precision.count_steps_of(optimizer)
        if start is not None and recipe.with_optimizer:
            start.resume(optimizer, model, recipe)
        average = build_average(recipe, model)
        if average is not None:
            average.attach(optimizer)
        schedule = build_lr_schedule(recipe, samples)
        task: AbstractTask = TASKS.build(split.task)
        state = cls(
            recipe,
            model,
            called,
            optimizer,
            average,
            schedule,
            split.fingerprint,
            task,
            TrainedLoss.of(recipe, split.task),
            TrainedLoss.of(recipe, split.task, recipe.scored_loss),
            Epochs.of(recipe, samples, lengths_for(recipe, split.train)),
            precision,
            Clipping(recipe.clip_norm, recipe.clip_value),
            sharing,
            near,
            augmented=build_augmented(recipe, near["train"]),
            carry=Carry.of(recipe, model),
        )
        state.callbacks = build_callbacks(state, split, folder)
        return state

    @property
    def processes(self) -> Processes:
        """Those that train together."""
        return self.sharing.processes

    @property
    def goes_on(self) -> bool:
        """Whether another epoch begins."""
        return not self.stopped and self.epoch < self.epochs.count

    def to_bytes(self) -> bytes:
        """The state as a file that is sealed with its checksum."""
        state: dict[str, Any] = {
            "recipe": self.recipe.model_dump_json(),
            "data": self.data,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
            "seconds": self.seconds,
            "gradients": self.gradients,
            "lr_scale": self.lr_scale,
            "stopped": self.stopped,
            "converged_at": self.converged_at,
            "best_epoch": self.best_epoch,
            "callbacks": {k: each.state_dict() for k, each in self.callbacks.items()},
            "processes": [self._own_state(), *self.apart[1:]],
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        file = io.BytesIO()
        torch.save(tree_map(_of_own_memory, state), file)
        return sealed(file.getvalue())

    def gather(self) -> None:
        """Collect for `to_bytes` all that is not the same in every process."""
        if self.processes.count > 1:
            self.apart = self.processes.gathered(self._own_state())

    def _own_state(self) -> dict[str, Any]:
        own = {"rng": torch.get_rng_state()}
        if "cuda" in self.recipe.device:
            own["cuda_rng"] = torch.cuda.get_rng_state(self.recipe.device)
        if not self.sharing.jointly and self.processes.count > 1:
            # What a method remembers of gradients, and where its draws are.
            method = self.optimizer.state_dict().get("steppe")
            own["method"] = tree_map(on_host, method)
        return own

    def load(self, saved: bytes) -> bool:
        """Go on from a state; False where it is damaged or of another training."""
        device = self.recipe.device
        try:
            contents = io.BytesIO(opened(saved))
            state = torch.load(contents, weights_only=True, map_location=device)
            if (state["recipe"], state["data"]) != (
                self.recipe.model_dump_json(),
                self.data,
            ):
                return False
            self._take(state)
        except Exception:  # torch raises many kinds for what is no state
            return False  # nothing but time is lost
        return True

    def _take(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        own = state["processes"][self.processes.rank]
        if "method" in own:
            state["optimizer"]["steppe"] = own["method"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name, callback in self.callbacks.items():
            callback.load_state_dict(state["callbacks"][name])
        self.epoch, self.history = state["epoch"], state["history"]
        self.seconds, self.gradients = state["seconds"], state["gradients"]
        self.lr_scale, self.stopped = state["lr_scale"], state["stopped"]
        self.converged_at = state["converged_at"]
        self.best_epoch = state["best_epoch"]
        self.rng = own["rng"].cpu()
        self.cuda_rng = own["cuda_rng"].cpu() if "cuda_rng" in own else None

    def put_back_rng(self) -> None:
        """Set the random state of torch to that of the file, if there is one."""
        if self.rng is not None:
            torch.set_rng_state(self.rng)
        if self.cuda_rng is not None:
            torch.cuda.set_rng_state(self.cuda_rng, self.recipe.device)

    @contextmanager
    def as_trained(self, split: Split) -> Iterator[None]:
        """Let the network be the one that a training which ended here would give.

        Everything is put back, the random state too: looking changes no bit.
        """
        device = self.recipe.device
        with torch.random.fork_rng([device] if "cuda" in device else []):
            if self.average is None or not self.average.count:
                yield
                return
            with self.average.applied():
                fit_statistics(self.recipe, self.model, split.train)
                yield

    def apply_average(self, split: Split) -> None:
        """Let the network be the average, where there is one."""
        if self.average is None:
            return
        self.average.detach()
        if self.average.count:
            self.average.copy_to(self.model)
            fit_statistics(self.recipe, self.model, split.train)


def _of_own_memory(leaf: Any) -> Any:
    """A tensor that is a row of more, as those of a pack are, without the rest.

    Torch would write all of the memory that a tensor is in.
    """
    if isinstance(leaf, Tensor) and leaf.untyped_storage().nbytes() > leaf.nbytes:
        return leaf.clone()
    return leaf


def sealed(contents: bytes) -> bytes:
    """Contents with their checksum before them."""
    return _HEAD + hashlib.sha256(contents).hexdigest().encode() + b"\n" + contents


def is_state(head: bytes) -> bool:
    """Whether a file that begins so is a state of this version."""
    return head.startswith(_HEAD)


def opened(state: bytes) -> bytes:
    """Contents of a sealed state.

    Raises:
        CheckpointError: they are not what was sealed, or nothing of this format.
    """
    start = len(_HEAD) + _DIGITS + 1
    if not is_state(state):
        raise CheckpointError("it is no state of this version of steppe")
    if sealed(state[start:]) != state:
        raise CheckpointError("its contents do not match their checksum")
    return state[start:]
