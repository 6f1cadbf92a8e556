"""State of a method from step to step, and metrics of its last one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import CheckpointError, UsageError
from steppe.vectors import joint_norm

Value = Tensor | float


class MethodState:
    """Tensors shaped as the parameters, by name, and plain numbers.

    New tensors count once the passes of a step are over, and only if they are finite,
    numbers once the passes are over: an exception in a pass leaves the memory as it
    was, and an overflow the tensors.
    """

    numbers: dict[str, float]
    _before: dict[str, float]  # the numbers as they were when the passes began
    _tensors: dict[str, dict[Tensor, Tensor]]
    _new: dict[str, tuple[list[Tensor], list[Tensor]]]

    def __init__(self) -> None:
        self.forget()

    def get(self, name: str, params: Sequence[Tensor]) -> list[Tensor]:
        """Tensors remembered for parameters; zeros where none fits."""
        known = self._tensors.get(name, {})
        return [_fitting(known.get(p), p) for p in params]

    def has(self, name: str) -> bool:
        """Whether anything is remembered under a name."""
        return name in self._tensors

    def stage(self, name: str, params: Sequence[Tensor], tensors: list[Tensor]) -> None:
        """Remember new tensors, one per parameter, from the end of the passes on."""
        self._new[name] = (list(params), tensors)

    def set(self, name: str, params: Sequence[Tensor], tensors: list[Tensor]) -> None:
        """Remember tensors at once: those that do not come from gradients."""
        self._tensors[name] = dict(zip(params, tensors, strict=True))

    def drop(self, name: str) -> None:
        """Remember nothing under a name any more."""
        self._tensors.pop(name, None)

    @torch.no_grad()
    def commit(self, gradients: Callable[[], Mapping[Tensor, Tensor]]) -> None:
        """Take the new tensors over, but for those of a step that went wrong.

        Args:
            gradients: gives those of the step, by parameter, where there is something
                new; if they are not finite, it is not remembered.
        """
        if not self._new:
            return
        sound = joint_norm(list(gradients().values())).isfinite()
        for name, (params, tensors) in self._new.items():
            finite = joint_norm(tensors).isfinite()
            finite &= sound.to(finite.device)
            old = self.get(name, params)
            kept = self._tensors.setdefault(name, {})
            if finite.device.type == "cpu":
                chosen = tensors if finite else old
            else:  # looking at it here would make the device wait
                chosen = [
                    _either(finite.to(t.device), t, o)
                    for t, o in zip(tensors, old, strict=True)
                ]
            kept.update(zip(params, chosen, strict=True))

    def begin(self) -> None:
        """Start the passes of a step."""
        self._before = dict(self.numbers)

    def end(self, *, finished: bool) -> None:
        """End them; if they are not finished, nothing of them is remembered."""
        if not finished:
            self.numbers = self._before
        self._new = {}

    def forget(self) -> None:
        """Drop everything."""
        self.numbers, self._tensors, self._new = {}, {}, {}
        self._before = {}

    def state(self, params: Sequence[Tensor]) -> dict[str, Any]:
        """All of it, with parameters by their number."""
        numbered = {
            name: {i: kept[p] for i, p in enumerate(params) if p in kept}
            for name, kept in self._tensors.items()
        }
        return {"tensors": numbered, "numbers": dict(self.numbers)}

    def read(
        self, state: Mapping[str, Any], params: Sequence[Tensor]
    ) -> tuple[dict[str, dict[Tensor, Tensor]], dict[str, float]]:
        """A saved state for `adopt`, as the parameters are in device and dtype.

        Raises:
            CheckpointError: tensors of other shapes or of parameters that there are
                not, or what is no finite number.
        """
        numbers = dict(state["numbers"])
        if not all(map(math.isfinite, numbers.values())):
            raise CheckpointError(
                "the state remembers a number that is not finite; take an earlier one."
            )
        loaded: dict[str, dict[Tensor, Tensor]] = {}
        for name, numbered in state["tensors"].items():
            loaded[name] = {}
            for i, tensor in numbered.items():
                if not 0 <= i < len(params):
                    raise CheckpointError(
                        f"the state remembers a {name} for parameter {i}, but there "
                        f"are {len(params)}; make the optimizer over the same "
                        "parameters."
                    )
                if tensor.shape != params[i].shape:
                    raise CheckpointError(
                        f"the state remembers a {name} of shape {tuple(tensor.shape)} "
                        f"for a parameter of shape {tuple(params[i].shape)}; make the "
                        "optimizer over the same parameters."
                    )
                p = params[i]
                if not tensor.isfinite().all():
                    raise CheckpointError(
                        f"the state remembers a {name} that is not finite; take an "
                        "earlier one."
                    )
                loaded[name][p] = tensor.detach().to(p.device, p.dtype, copy=True)
        return loaded, numbers

    def adopt(
        self, tensors: dict[str, dict[Tensor, Tensor]], numbers: dict[str, float]
    ) -> None:
        """Continue from a state that `read` has checked."""
        self._tensors, self.numbers, self._new = tensors, numbers, {}


def check_loss(who: str, loss: Any) -> None:
    """Refuse anything but one number for a loss, such as a pair with the outputs.

    Raises:
        UsageError: with what was given; `who` begins the sentence.
    """
    if isinstance(loss, Tensor):
        single = loss.numel() == 1
        got = f"a tensor of shape {tuple(loss.shape)}; return its mean"
    else:
        single = hasattr(loss, "__float__")
        got = f"{type(loss).__name__}; return that number alone"
    if loss is None:
        got = (
            "None; return it, or under Lightning's manual optimization see "
            "steppe.integrations.lightning.step"
        )
    if not single:
        raise UsageError(f"{who} the loss, one number, got {got}.")


class _Mean:
    """A weighted mean."""

    def __init__(self) -> None:
        self._sum: Value = 0.0
        self._weight = 0.0

    def add(self, value: Value, weight: float) -> None:
        self._sum = self._sum + value * weight
        self._weight += weight

    def value(self) -> Value | None:
        return self._sum / self._weight if self._weight else None


class StepMetrics:
    """Losses and numbers noted during the passes of one step, read when asked for."""

    def __init__(self) -> None:
        self._clean = _Mean()  # losses at the unperturbed weights
        self._moved = _Mean()  # losses elsewhere
        self._notes: dict[str, Value] = {}

    def loss(self, value: Value, *, clean: bool, weight: float) -> None:
        """Note a loss in a pass, of a share of the batch with that weight."""
        value = value.detach() if isinstance(value, Tensor) else value
        (self._clean if clean else self._moved).add(value, weight)

    def note(self, name: str, value: Value) -> None:
        """Note a number; a tensor is looked at only when the numbers are read."""
        self._notes[name] = value

    def change(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        """Replace a noted tensor by a function of it."""
        value = self._notes.get(name)
        if isinstance(value, Tensor):
            self._notes[name] = function(value)

    @property
    def clean(self) -> Value | None:
        """Mean loss at the unperturbed weights."""
        return self._clean.value()

    @property
    def moved(self) -> Value | None:
        """Mean loss over the passes at perturbed weights."""
        return self._moved.value()

    def to_log(self) -> Value:
        """The loss at the unperturbed weights, or else the mean over the passes.

        Raises:
            UsageError: none was noted.
        """
        loss = self.moved if self.clean is None else self.clean
        if loss is None:
            raise UsageError(
                "no loss was reported in the last passes; call report(loss) in each."
            )
        return loss

    def numbers(self) -> dict[str, float]:
        """All numbers by name; waits for the device once per number."""
        values = dict(self._notes)
        if self.clean is not None:
            values["loss"] = self.clean
        if self.moved is not None:
            values["perturbed_loss"] = self.moved
        if self.clean is not None and self.moved is not None:
            values["sharpness_gap"] = self.moved - self.clean
        return {name: float(value) for name, value in sorted(values.items())}


def _either(first: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """One of two tensors; where the new one repeats numbers, they are kept once."""
    if 0 not in new.stride():
        return torch.where(first, new, old)
    once = tuple(slice(0, 1 if stride == 0 else None) for stride in new.stride())
    return torch.where(first, new[once], old[once]).expand(new.shape)


def _fitting(tensor: Tensor | None, param: Tensor) -> Tensor:
    if tensor is None or tensor.shape != param.shape:
        return torch.zeros_like(param)
    return tensor.to(param.device, param.dtype)
