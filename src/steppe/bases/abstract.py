"""Base optimizers: their registry, ranges, refusals, counts of steps, buckets.

A base is registered by a function of the parameters of a model, in their order. It is
one optimizer, or a list of them where parameters of several kinds have several; all get
the same lr. Texts say pairs such as `betas` as two numbers, and defaults are those of
studies, so that signatures of functions are not those of the classes.

Tensors of one device, type and number of steps are updated together, by torch's
operations on lists and without waiting for a GPU.

Shape letters: P parameter tensors of a bucket.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import CheckpointError, SettingError
from steppe.registry.bounds import Range, Ranges
from steppe.registry.registry import Registry
from steppe.registry.specs import Spec
from steppe.stepping.state_dicts import reading

BASES: Registry[Spec] = Registry("base optimizer", Spec)

FROM_ZERO = Range(0.0)
DECAY = Range(0.0, 1.0, below=True)  # of a running mean
GRADIENT: Ranges = {"lr": FROM_ZERO, "weight_decay": FROM_ZERO}
MOMENTUM: Ranges = {**GRADIENT, "momentum": FROM_ZERO}
# Of texts, which say both decays of `betas` apart.
TEXT_MOMENTS: Ranges = {**GRADIENT, "beta1": DECAY, "beta2": DECAY, "eps": FROM_ZERO}
MOMENTS: Ranges = {**GRADIENT, "betas": replace(DECAY, several=True), "eps": FROM_ZERO}

Group = Mapping[str, Any]


def as_texts(bounds: Ranges) -> Ranges:
    """Ranges of a class with `betas`, for a function with `beta1` and `beta2`."""
    own = {name: each for name, each in bounds.items() if name not in MOMENTS}
    return {**TEXT_MOMENTS, **own}


@dataclass(frozen=True)
class Bucket:
    """Parameters that are updated together."""

    step: int  # number of this update, from 1
    params: list[Tensor] = field(default_factory=list)  # P
    grads: list[Tensor] = field(default_factory=list)  # P; not to be written to
    states: list[dict[str, Any]] = field(default_factory=list)  # P

    def state(self, name: str) -> list[Tensor]:
        """P tensors of the state."""
        return [state[name] for state in self.states]

    def decayed(self, weight_decay: float) -> list[Tensor]:
        """P gradients of the loss plus weight_decay / 2 times the squared weights."""
        if weight_decay == 0:
            return self.grads
        return list(torch._foreach_add(self.grads, self.params, alpha=weight_decay))


class AbstractBase(Optimizer, ABC):
    """An optimizer that steps with `p.grad`.

    Settings live in the parameter groups, as in torch, and are checked when a group
    is added and before every step.

    Raises:
        SettingError: a setting out of its range, one that shapes the state and was
            changed after a step, or a gradient that is sparse or complex; no weight
            has moved then.
    """

    bounds: ClassVar[Ranges]

    @abstractmethod
    def _settled(self, settings: Group) -> dict[str, Any]:
        """Settings of a group, checked and completed."""

    @abstractmethod
    def _shapes(self, param: Tensor, group: Group) -> dict[str, torch.Size]:
        """Tensors of the state of a parameter, by name; they begin as zeros."""

    @abstractmethod
    def _update(self, bucket: Bucket, group: Group) -> None:
        """Change weights and state; runs without autograd."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch, after a check of the settings."""
        settled = self._settled({**self.defaults, **param_group})
        super().add_param_group(settled)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step once.

        Args:
            closure: evaluates the model anew, calls `backward()`, returns the loss.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # All groups are checked before the first weight moves: a refusal in the second
        # would leave half a step.
        for group in self.param_groups:
            self._settled(group)
            self._refuse(group)
        with torch.no_grad():
            for group in self.param_groups:
                for bucket in self._buckets(group):
                    self._update(bucket, group)
                    for state in bucket.states:
                        state["step"] = bucket.step
        return loss

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        Raises:
            CheckpointError: the state of another optimizer, or a damaged one.
            SettingError: a setting in it that is out of its range.

        Nothing has been loaded then.
        """
        previous = self.state, self.param_groups
        try:
            with reading(type(self).__name__):
                self._load(state_dict)
        except BaseException:  # an interrupt too leaves the state as it was
            self.state, self.param_groups = previous
            raise

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        for group in state_dict["param_groups"]:
            if missing := sorted(self.defaults.keys() - group.keys()):
                raise CheckpointError(
                    f"the state is not of {type(self).__name__}: its groups have no "
                    f"{missing[0]}; load it into the optimizer that saved it."
                )
            self._settled(group)
        super().load_state_dict(dict(state_dict))
        for group in self.param_groups:
            for param in group["params"]:
                self._check_state(param, group)

    def _refuse(self, group: Group) -> None:
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.layout is not torch.strided or param.grad.is_complex():
                kind = "complex" if param.grad.is_complex() else "sparse"
                raise SettingError(
                    f"{type(self).__name__} needs dense real gradients, got a {kind} "
                    f"one of shape {tuple(param.shape)}; give that parameter to "
                    "another optimizer."
                )
            self._check_state(param, group)

    def _check_state(self, param: Tensor, group: Group) -> None:
        state = self.state.get(param)
        if not state:
            return
        for name, shape in self._shapes(param, group).items():
            if name not in state or state[name].shape != shape:
                raise SettingError(
                    f"{type(self).__name__} has stepped with another setting, so its "
                    f"state has no {name} of shape {tuple(shape)}; set it back, or "
                    "make a new optimizer."
                )

    def _buckets(self, group: Group) -> list[Bucket]:
        buckets: dict[tuple[torch.device, torch.dtype, int], Bucket] = {}
        for param in group["params"]:
            if param.grad is None:
                continue
            state = self.state[param]
            if not state:
                shapes = self._shapes(param, group)
                state.update({name: _zeros(param, s) for name, s in shapes.items()})
                state["step"] = 0
            # Parameters that had no gradient in some steps are corrected for their own
            # number of steps, and cannot share the factors of the others.
            step = state["step"] + 1
            bucket = buckets.setdefault((param.device, param.dtype, step), Bucket(step))
            bucket.params.append(param)
            bucket.grads.append(param.grad)
            bucket.states.append(state)
        return list(buckets.values())


def _zeros(param: Tensor, shape: torch.Size) -> Tensor:
    like = shape == param.shape  # also in the order of its memory
    return torch.zeros_like(param) if like else param.new_zeros(shape)


def check_pair(name: str, value: Any) -> None:
    """Refuse anything but two values."""
    if len(value) != 2:
        raise SettingError(f"{name} must be two numbers, got {value!r}.")
