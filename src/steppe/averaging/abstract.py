"""Averages of the weights along training: the protocol, and the registry of all.

An average sees the weights after each optimizer step and keeps copies of its own::

    ema = EMA(model, decay=0.999)
    for x, y in loader:
        ...
        opt.step()
        ema.update()  # or once, before the loop: ema.attach(opt)
    with ema.applied():  # the model holds the average here, and its own weights after
        evaluate(model)

Shape letters: P parameter tensors (and averaged buffers).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from steppe.averaging.places import Places, first_difference, is_number
from steppe.errors import CheckpointError, SettingError, UsageError, brief, check_choice
from steppe.parameters import (
    BufferSnapshot,
    forget_derived,
    interpolated,
    overwrite_,
    restored,
)
from steppe.registry.registry import Registry
from steppe.registry.specs import Spec
from steppe.stepping.state_dicts import check_entries, reading

STATE_FORMAT = 1  # of a state_dict


@dataclass(frozen=True, kw_only=True)
class AverageSpec(Spec):
    """Facts about an average of the weights."""

    memory: str = ""  # copies of the parameters it keeps, in words
    copies: int = 1  # the same at the example settings, at most; counted by a test
    grad_evals: float = 0  # whole-batch gradients per step
    reestimate: bool = True  # running statistics have to be re-estimated by default
    validates: bool = False  # wants validation losses, by `validate(loss)`
    example: Mapping[str, Any] = field(default_factory=dict)


AVERAGES: Registry[AverageSpec] = Registry("average", AverageSpec)


class Mean:
    """Mean of the weights at some steps.

    Args:
        tensors: P tensors.
        count: number of steps.
        infinite: places of those that may hold infinities, such as masks.
    """

    def __init__(
        self, tensors: list[Tensor], count: int = 1, infinite: Sequence[int] = ()
    ) -> None:
        self.tensors = tensors
        self.count = count
        self.infinite = infinite

    def copy(self) -> Mean:
        """The same mean in memory of its own."""
        return Mean([t.clone() for t in self.tensors], self.count, self.infinite)

    def add_(self, other: Mean) -> None:
        """Take in another mean, every step weighing alike."""
        self.count += other.count
        self.lerp_(other.tensors, other.count / self.count)

    def lerp_(self, tensors: list[Tensor], weight: float) -> None:
        """Move by a share of the way; entries equal on both ends stay bit for bit."""
        # One by one only where it has to be: models have hundreds of buffers.
        masks = {
            i: interpolated(self.tensors[i], tensors[i], weight) for i in self.infinite
        }
        torch._foreach_lerp_(self.tensors, tensors, weight)
        for i, mask in masks.items():
            self.tensors[i].copy_(mask)


class AbstractAverage(ABC):
    """Keeps an average of a model's weights; the model itself goes its own way.

    Every floating-point parameter is averaged, a shared one once, and frozen ones too:
    they may be unfrozen later, and the average of a value that never changes is that
    value, bit for bit.

    Args:
        model: the bare model, on its device.
        buffers: "copy" leaves floating-point buffers (running statistics) to the
            model: inside `applied()` they are the model's own. "average" averages
            them like parameters.
        dtype: of the averages; None keeps float32 for half-precision parameters and
            their own type for others.

    Raises:
        SettingError: an unknown policy, a dtype of no real numbers, no parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        buffers: Literal["copy", "average"],
        dtype: torch.dtype | None,
    ) -> None:
        check_choice("buffers", buffers, ("copy", "average"))
        self.model = model
        self.buffers = buffers
        self.steps = 0  # optimizer steps seen
        self._places = Places(model, buffers=buffers == "average", dtype=dtype)
        self._inside = False
        self._hook: RemovableHandle | None = None

    # ---- what a method says ------------------------------------------------------

    @abstractmethod
    def wants(self, step: int, /) -> bool:
        """Whether the weights after this step, counted from 1, go in."""

    @abstractmethod
    def take(self, weights: Mean) -> None:
        """Put in the present weights, which are not the average's own memory."""

    @abstractmethod
    def mean(self) -> Mean | None:
        """The average; None as long as nothing has gone in."""

    @abstractmethod
    def copies(self) -> Sequence[Mean]:
        """All that is kept, in the order that `restore` gets it back."""

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Numbers, and lists of numbers, to save beside the copies."""

    @abstractmethod
    def restore(self, copies: list[Mean], numbers: Mapping[str, Any], /) -> None:
        """Continue from saved `copies` and `numbers`."""

    # ---- along training ----------------------------------------------------------

    @torch.no_grad()
    def update(self) -> None:
        """Take note of one optimizer step; call it after `opt.step()`.

        Raises:
            UsageError: inside `applied()`, or the parameters changed in kind.
        """
        if self._inside:
            raise UsageError(
                "update() inside applied() would average the average; call it outside."
            )
        if self.wants(self.steps + 1):
            self.take(self.weights())
        self.steps += 1

    def attach(self, optimizer: Optimizer) -> None:
        """Update after every step of an optimizer, until `detach()`.

        Args:
            optimizer: the one whose `step()` the loop calls, or the wrapper of it that
                a trainer has made. A base inside a steppe optimizer is too early: some
                methods go on after its step.

        A step that `GradScaler` skips does not count, unless the optimizer is a fused
        one, which decides on the device.

        Raises:
            SettingError: no optimizer, or one that steps none of the parameters.
            UsageError: attached already.
        """
        if not isinstance(optimizer, Optimizer):
            raise SettingError(
                f"attach() needs a torch.optim.Optimizer, got {brief(optimizer)}."
            )
        if self._hook is not None:
            raise UsageError("the average is attached already; call detach() first.")
        inner = getattr(optimizer, "optimizer", None)  # a wrapper may have no hooks
        optimizer = inner if isinstance(inner, Optimizer) else optimizer
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if stepped.isdisjoint(id(p) for p in self.model.parameters()):
            raise SettingError(
                "the optimizer steps none of the parameters of the model; attach to "
                "the one that trains it."
            )
        self._hook = optimizer.register_step_post_hook(self._after_step)

    def detach(self) -> None:
        """Leave the optimizer; nothing happens where there is none."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = None

    def _after_step(self, *_: Any) -> None:
        self.update()

    # ---- using the average -------------------------------------------------------

    @property
    def count(self) -> int:
        """How many weights are in the average; 0 before the first."""
        mean = self.mean()
        return 0 if mean is None else mean.count

    def tensors(self) -> dict[str, Tensor]:
        """The average by name, in its own precision and memory.

        Raises:
            UsageError: nothing has gone in yet.
        """
        named = zip(self._places.shapes, self._ready().tensors, strict=True)
        return {name: tensor.clone() for name, tensor in named}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the average inside; all is as before at the end.

        Parameters and buffers come back bit for bit, also after an exception: what
        `reestimate` writes inside is gone then.

        Raises:
            UsageError: nothing has gone in yet, inside another `applied()` of this
                average, or the parameters changed in kind.
        """
        if self._inside:
            raise UsageError("applied() is on already; leave it before the next one.")
        mean = self._ready()
        self._places.check_names()
        live = self._places.tensors()
        buffers = BufferSnapshot(self.model)
        self._inside = True
        try:
            with restored(live):
                overwrite_(live, mean.tensors)
                yield
        finally:
            buffers.put_back()
            self._inside = False

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Write the average into a model of the same names, or into the model itself.

        Buffers that are not averaged are those that the averaged model has now.

        Raises:
            SettingError: a model of other names or shapes; nothing is written then.
            UsageError: nothing has gone in yet.
        """
        mean = self._ready()
        self._places.check_names()
        source: dict[str, Tensor] = dict(self.model.named_buffers())
        source |= zip(self._places.shapes, mean.tensors, strict=True)
        target: dict[str, Tensor] = dict(model.named_buffers())
        target |= {n: p for n, p in model.named_parameters() if is_number(p)}
        wrong = first_difference(source, {n: t.shape for n, t in target.items()})
        if wrong:
            raise SettingError(
                f"the model differs from the averaged one in {wrong}; give a model "
                "built alike."
            )
        for name, tensor in target.items():
            tensor.copy_(source[name])
        forget_derived()

    # ---- saving ------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers to continue from; the settings are the constructor's."""
        self._places.check_names()
        copies = [
            {
                "count": mean.count,
                "tensors": dict(zip(self._places.shapes, mean.tensors, strict=True)),
            }
            for mean in self.copies()
        ]
        return {
            "format": STATE_FORMAT,
            "method": type(self).__name__,
            "steps": self.steps,
            "copies": copies,
            "numbers": self.numbers(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        Raises:
            CheckpointError: the state of another method, of another model or of a
                newer version, or a damaged one; nothing has been loaded then.
        """
        previous = self.copies(), self.numbers()
        try:
            with reading(type(self).__name__):
                self._load(state_dict)
        except BaseException:
            self.restore(list(previous[0]), previous[1])
            raise

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        method = type(self).__name__
        missing = {"format", "method", "steps", "copies", "numbers"} - set(state_dict)
        if missing:
            raise CheckpointError(
                f"the state of an average has an entry '{min(missing)}', this one has "
                "not; give what state_dict() returned."
            )
        kinds = {"format": int, "method": str, "steps": int, "numbers": Mapping}
        check_entries(state_dict, kinds, method)
        if state_dict["format"] > STATE_FORMAT:
            raise CheckpointError(
                f"the state has format {state_dict['format']}, this steppe reads up to "
                f"{STATE_FORMAT}; upgrade steppe."
            )
        if state_dict["method"] != method:
            raise CheckpointError(
                f"the state is of {state_dict['method']}, not of {method}; make a "
                f"{state_dict['method']} to continue it."
            )
        self._places.check_names()
        for saved in state_dict["copies"]:
            check_entries(saved, {"count": int, "tensors": Mapping}, method)
            if not all(
                self._places.is_sound(*each) for each in saved["tensors"].items()
            ):
                raise CheckpointError(
                    "the state has an average that is not finite; take an earlier one."
                )
            wrong = first_difference(saved["tensors"], self._places.shapes)
            if wrong:
                raise CheckpointError(
                    f"the state differs from the model in {wrong}; load it for the "
                    "model it was made with, with the same policy for buffers."
                )
        copies = [
            Mean(
                self._places.fitting(saved["tensors"]),
                saved["count"],
                self._places.infinite,
            )
            for saved in state_dict["copies"]
        ]
        self.restore(copies, state_dict["numbers"])
        self.steps = state_dict["steps"]

    # ---- the weights of the model ------------------------------------------------

    @torch.no_grad()
    def weights(self) -> Mean:
        """The present weights in the precision of the average; not to be written to."""
        return Mean(self._places.weights(), infinite=self._places.infinite)

    def _ready(self) -> Mean:
        mean = self.mean()
        if mean is None:
            raise UsageError(
                f"nothing has gone into the average in {self.steps} steps; wait until "
                "its count is 1 or more."
            )
        return mean
