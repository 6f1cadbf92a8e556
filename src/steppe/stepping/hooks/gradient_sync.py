"""Gradients of several processes: which passes are averaged, and when.

With `DistributedDataParallel` a pass either averages its gradient over the processes
during `backward()` or keeps it local. Sharded parameters (`fully_shard`) are averaged
in every pass; nothing is left to decide there.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from steppe.errors import SettingError
from steppe.parameters import copy_, flatten, unflatten
from steppe.stepping.context import GradientRequest, StepContext
from steppe.stepping.loop import AbstractHook
from steppe.stepping.options import Sync


class GradientSync(AbstractHook):
    """Averages the gradients of a loop of passes over processes.

    "local" perturbs every process by its own gradient and averages once, what is
    stepped with (m-sharpness, Foret et al., 2021); "global" averages every pass.

    Args:
        model: as it is called in the loop; one process unless it is a
            `DistributedDataParallel`, or one around it, as of `torch.compile`.
        sync: None for "local" where there is a choice.
    """

    def __init__(self, model: nn.Module | None, sync: Sync | None) -> None:
        if sync not in (None, "local", "global"):
            raise SettingError(f"sync must be 'local' or 'global', got {sync!r}.")
        self._model = None if model is None else _parallel_in(model)
        parallel = self._model is not None
        if model is not None and sync is None and not parallel:
            _refuse_the_inside(model)
        if sync == "local" and not parallel:
            raise SettingError(
                "sync='local' needs model=, the DistributedDataParallel module that "
                "the loop calls; sharded models can only be perturbed globally."
            )
        self.local = parallel and sync != "global"
        # Gradients are views of memory that the next averaged pass writes to.
        self.gradients_are_bucket_views = (
            self._model is not None and self._model.gradient_as_bucket_view
        )
        modules = () if model is None else model.modules()
        key = "set_reshard_after_backward"
        self._sharded: list[Any] = [m for m in modules if hasattr(m, key)]
        self._params: list[Tensor] = []  # of the running loop
        self._accumulate = False
        self._outer = True  # False where the caller is inside `no_sync()`
        self._final = False  # the gradient of the pass is stepped with as it is
        self._owed = False  # the gradient in p.grad is of this process alone

    @property
    def acts(self) -> bool:
        """Whether there is anything to do: a model that synchronises or is sharded."""
        return self._model is not None or bool(self._sharded)

    def start(self, step: StepContext) -> None:
        self._params, self._accumulate = step.params, step.accumulate
        if self.gradients_are_bucket_views:
            _move_to_own_memory(step.params)
        if self._model is not None:
            self._outer = self._model.require_backward_grad_sync

    def before_pass(self, index: int, request: GradientRequest) -> None:
        self._drop_whole()
        if self._model is None:
            return
        # What other loops add to is averaged once, with all of them in it.
        self._final = request.final and not self._accumulate
        average = (self._final and self._outer) if self.local else True
        self._owed = self.local and self._outer and not average
        self._model.require_backward_grad_sync = average

    def after_pass(self, index: int) -> None:
        if self.gradients_are_bucket_views and not self._final:
            _move_to_own_memory(self._params)

    def finish(self) -> None:
        """Average `p.grad` over the processes where no pass did, in one call each."""
        if self._model is None or not self._owed:
            return
        self._owed = False
        grads = []
        for p in self._params:
            if p.requires_grad:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                grads.append(p.grad)
        self.average_(grads)

    def restore(self, completed: bool) -> None:
        self._params = []
        self._drop_whole()
        if self._model is not None:
            self._model.require_backward_grad_sync = self._outer

    def average_(self, tensors: list[Tensor]) -> None:
        """Average tensors in place where processes keep their gradients apart."""
        if not self.local:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for group in kinds.values():
            joined = self._average(flatten(group))
            copy_(group, unflatten(joined, group))

    def mean(self, value: float) -> float:
        """The mean of a number over the processes that decide together."""
        if self._model is None:
            return value
        device = next(self._model.parameters()).device
        number = torch.tensor(value, dtype=torch.float64, device=device)
        return self._average(number).item()

    def share(self, doubt: Tensor) -> None:
        """Let a number that is NaN in one process be NaN in all of them.

        On a GPU the doubtful process has spread it already: NaN has moved its weights,
        and its gradient went into the average.
        """
        if self.local and doubt.device.type == "cpu":
            self._average(doubt)

    def draw_number(self, param: Tensor) -> int:
        """Number of this process among those that draw noise of their own, from 0.

        Those are the ones that perturb for themselves, and those that hold other parts
        of the parameters.
        """
        if self._model is not None and self.local:
            return dist.get_rank(self._model.process_group)
        number = 0
        for dim, placement in enumerate(getattr(param, "placements", ())):
            if placement.is_shard():
                mesh = param.device_mesh  # type: ignore[attr-defined]
                number = number * mesh.size(dim) + mesh.get_local_rank(dim)
        return number

    def _drop_whole(self) -> None:
        """Let sharded modules gather their parameters anew, after they were moved.

        With `set_reshard_after_backward(False)` they keep the whole ones.
        """
        for module in self._sharded:
            module.reshard()

    def _average(self, tensor: Tensor) -> Tensor:
        assert self._model is not None
        group = self._model.process_group
        dist.all_reduce(tensor, group=group)
        return tensor.div_(dist.get_world_size(group))


def _move_to_own_memory(params: list[Tensor]) -> None:
    """Copy gradients out of the memory that the next averaged pass writes to."""
    for p in params:
        if p.grad is not None:
            p.grad = p.grad.clone()


def _parallel_in(model: nn.Module) -> DistributedDataParallel | None:
    """The model itself or, inside a shell such as `torch.compile`'s, all of it."""
    for module in model.modules():
        if isinstance(module, DistributedDataParallel):
            return (
                module if set(module.parameters()) == set(model.parameters()) else None
            )
    return None


def _refuse_the_inside(model: nn.Module) -> None:
    """Refuse a model whose gradients somebody averages that it does not show.

    Lightning wraps the module that it trains, and its adapter wants joint gradients.
    """
    if not (
        dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    ):
        return
    ours = set(model.parameters())
    # `isinstance` would wake up whatever objects there are.
    wrappers = [o for o in gc.get_objects() if type(o) is DistributedDataParallel]
    by_hand = [each for each in wrappers if not hasattr(each.module, "_trainer")]
    if any(not ours.isdisjoint(wrapper.parameters()) for wrapper in by_hand):
        raise SettingError(
            "model is the module inside a DistributedDataParallel, which would average "
            "every pass; give model= the DistributedDataParallel itself, or "
            "sync='global' if that is meant."
        )
