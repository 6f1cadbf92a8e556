"""The processes that train one network together: one group, and its messages.

Every process holds the whole network and takes its share of each batch. After a step
weights and buffers are the same bits in all of them, so that all that follows from them
(learning rates, rules that stop, eigenvalues) is computed alike without a word. The
first process scores, keeps states and writes files.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from steppe.errors import SettingError, UsageError
from steppe.seeds import seed_named
from steppe_lab.training.failures import FailedElsewhereError, LostProcessError
from steppe_lab.training.launch import Launch, launch
from steppe_lab.training.recipe import Recipe

T = TypeVar("T")
# Longer than the first process needs to score a network while the others wait.
_PATIENCE = datetime.timedelta(hours=2)
_LOST = ("gloo", "NCCL", "by peer")  # in complaints about a process that ended


@dataclass(frozen=True)
class Processes:
    """Processes of a training; those of the defaults are this one alone.

    Args:
        rank: number of this one, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the first one."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Seed of draws that are not the same in every process, such as of dropout."""
        return seed if self.leads else seed_named(f"process {self.rank} {seed}")

    def all(self, holds: bool) -> bool:
        """Whether something holds in every process."""
        if self.count == 1:
            return holds
        return float(self.mean(float(holds), "cpu")) == 1.0

    def of_first(self, work: Callable[[], T]) -> T:
        """The result of the first process, which alone does the work.

        Raises:
            LostProcessError: the work failed there; it raises as it does there.
        """
        if self.count == 1:
            return work()
        answer: list[Any] = [None, ""]
        failure: Exception | None = None
        if self.leads:
            try:
                answer[0] = work()
            except Exception as error:
                failure, answer[1] = error, str(error)
        dist.broadcast_object_list(answer, src=0)
        if failure is not None:
            raise failure
        if answer[1]:
            raise FailedElsewhereError(answer[1])
        result: T = answer[0]
        return result

    def gathered(self, own: T) -> list[T]:
        """Values of all processes by their rank, in the first one; else none."""
        if self.count == 1:
            return [own]
        values: list[Any] | None = [None] * self.count if self.leads else None
        dist.gather_object(own, values, dst=0)
        return values or []

    def mean(self, value: Tensor | float, device: str) -> Tensor:
        """Mean of a number over the processes; no device is waited for."""
        number = torch.as_tensor(value, device=device).detach().clone()
        dist.all_reduce(number)
        return number / self.count

    def share_buffers(self, model: nn.Module) -> None:
        """Let buffers be those of the first process, such as running statistics."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


ALONE = Processes()


def on_host(leaf: Any) -> Any:
    """A value of a state as another process can take it."""
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf


@contextmanager
def joined(recipe: Recipe) -> Iterator[Processes]:
    """The processes of a training, which meet here and part at the end.

    Raises:
        UsageError: there are more or fewer than the recipe says.
        LostProcessError: one of the others ended, or failed.
    """
    if recipe.processes == 1:
        yield ALONE
        return
    place = launch()
    if place.count != recipe.processes:
        raise UsageError(
            f"this training is one of {recipe.processes} processes, got {place.count}; "
            f"start it with torchrun --nproc-per-node {recipe.processes}."
        )
    take_gpu(recipe.device, place)
    meeting = dist.is_initialized()
    if not meeting:
        # Numbers of the host go by gloo on a GPU too.
        cuda = torch.device(recipe.device).type == "cuda"
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(place.rank, place.count)
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError)
        if not lost and not any(word in str(error) for word in _LOST):
            raise
        raise LostProcessError(
            f"another of the {place.count} processes of this training ended; the same "
            "command goes on from the last state that was kept."
        ) from error
    finally:
        if not meeting:
            dist.destroy_process_group()


def take_gpu(device: str, place: Launch) -> None:
    """Let "cuda" be the GPU of this process from here on.

    Raises:
        SettingError: there are more processes on this machine than GPUs.
    """
    if torch.device(device).type != "cuda":
        return
    count = torch.cuda.device_count()
    if place.local_rank >= count:
        raise SettingError(
            f"a machine of {count} GPUs takes as many processes, got one of number "
            f"{place.local_rank}, counted from 0; start fewer."
        )
    torch.cuda.set_device(place.local_rank)


def check_processes(recipe: Recipe) -> None:
    """Refuse a training that so many processes cannot share.

    Raises:
        SettingError: batches that are too small, perturbations that cannot be shared
            out, or a device that is one alone.
    """
    count, parts = recipe.processes, recipe.perturbations
    if recipe.batch_size < max(count, parts):
        raise SettingError(
            f"batch_size must be at least {max(count, parts)}, a sample for each "
            f"process and perturbation, got {recipe.batch_size}; raise it."
        )
    if parts > 1 and recipe.optimizer is None:
        raise SettingError(
            f"perturbations needs an optimizer that perturbs the weights, such as sam, "
            f"got {recipe.base.name}; leave it out."
        )
    if parts > 1 and parts % count:
        raise SettingError(
            f"perturbations must be 1 or a multiple of the {count} processes, got "
            f"{parts}; take {count}."
        )
    if count > 1 and str(torch.device(recipe.device)) not in ("cpu", "cuda"):
        raise SettingError(
            f"device must be cpu or cuda with several processes, each of which takes "
            f"the GPU of its number, got '{recipe.device}'."
        )
