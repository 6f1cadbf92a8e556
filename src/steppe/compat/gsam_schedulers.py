"""Schedulers of GSAM's authors, of a radius or of the learning rate of an optimizer.

The signatures are those of github.com/juntang-zhuang/GSAM; the values come from
`steppe.schedules`. Differences from that code: step t has the value of step t, of the
learning rate as of the radius, from step 0 on (there the learning rate is one step
late); values stay where they are after `T_max`; a value that follows a learning rate
stays between its ends; a scheduler can be saved. `steppe.schedules.published_gsam` has
the authors' order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch.optim import Optimizer

from steppe.errors import SettingError
from steppe.schedules import Cosine, Linear, Poly, Proportional, StepSchedule
from steppe.stepping.state_dicts import check_entries


@runtime_checkable
class Scheduler(Protocol):
    """Protocol of the schedule that `steppe.compat.GSAM` takes its radius from."""

    @property
    def value(self) -> float:
        """The value of the present step."""

    def step(self) -> float:
        """Go on to the next step; returns its value."""

    def state_dict(self) -> dict[str, Any]:
        """State of the schedule, for `load_state_dict`."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state."""


class CountedScheduler:
    """The value of a schedule at the present step, which it counts.

    Args:
        schedule: of the value.
        optimizer: gets the value as the learning rate of all its groups, at once and
            after every `step()`; None to only tell the value.
    """

    def __init__(self, schedule: StepSchedule, optimizer: Optimizer | None) -> None:
        self.schedule, self.optimizer = schedule, optimizer
        self.t = 0
        self._apply()

    @property
    def value(self) -> float:
        """The value of the present step."""
        return self.schedule(self.t)

    def step(self) -> float:
        """Go on to the next step; returns its value."""
        self.t += 1
        self._apply()
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """The number of the present step."""
        return {"t": self.t}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved state; the optimizer's learning rate is in its own."""
        check_entries(state_dict, {"t": int}, type(self).__name__)
        self.t = state_dict["t"]

    def _apply(self) -> None:
        if self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.value


class LinearScheduler(CountedScheduler):
    """From max_value to min_value along a line, after a linear warm-up.

    Args:
        T_max: length of the whole schedule, in calls of `step()`.
        max_value: value when the warm-up is over.
        min_value: value from step `T_max` on.
        init_value: value at step 0 of a warm-up.
        warmup_steps: length of the warm-up; 0 for none.
        optimizer: see `CountedScheduler`.
    """

    def __init__(
        self,
        T_max: int,
        max_value: float,
        min_value: float = 0.0,
        init_value: float = 0.0,
        warmup_steps: int = 0,
        optimizer: Optimizer | None = None,
    ) -> None:
        schedule = Linear(max_value, min_value, T_max, warmup_steps, init_value)
        super().__init__(schedule, optimizer)


class CosineScheduler(CountedScheduler):
    """From max_value to min_value along half a cosine; arguments of LinearScheduler."""

    def __init__(
        self,
        T_max: int,
        max_value: float,
        min_value: float = 0.0,
        init_value: float = 0.0,
        warmup_steps: int = 0,
        optimizer: Optimizer | None = None,
    ) -> None:
        schedule = Cosine(max_value, min_value, T_max, warmup_steps, init_value)
        super().__init__(schedule, optimizer)


class PolyScheduler(CountedScheduler):
    """From max_value towards min_value along a power of the step.

    Args:
        poly_order: the power, <= 0.
        T_max: as in `LinearScheduler`, and so the others.
        max_value: value when the warm-up is over.
        min_value: limit for ever more steps.
        init_value: value at step 0 of a warm-up.
        warmup_steps: length of the warm-up.
        optimizer: see `CountedScheduler`.
    """

    def __init__(
        self,
        poly_order: float = -0.5,
        *,
        T_max: int,
        max_value: float,
        min_value: float = 0.0,
        init_value: float = 0.0,
        warmup_steps: int = 0,
        optimizer: Optimizer | None = None,
    ) -> None:
        schedule = Poly(
            max_value, min_value, T_max, poly_order, warmup_steps, init_value
        )
        super().__init__(schedule, optimizer)


class ProportionScheduler:
    """A value that follows a learning rate, as it is when the value is used.

    Args:
        pytorch_lr_scheduler: its optimizer's first group has the learning rate.
        max_lr: where the value is max_value.
        min_lr: where it is min_value, <= max_lr.
        max_value: the highest value.
        min_value: the lowest one.
    """

    def __init__(
        self,
        pytorch_lr_scheduler: Any,
        max_lr: float,
        min_lr: float,
        max_value: float,
        min_value: float,
    ) -> None:
        optimizer = getattr(pytorch_lr_scheduler, "optimizer", None)
        if not isinstance(optimizer, Optimizer):
            raise SettingError(
                "pytorch_lr_scheduler must be an LR scheduler that was made with an "
                f"optimizer, got {pytorch_lr_scheduler!r}."
            )
        self.pytorch_lr_scheduler = pytorch_lr_scheduler
        self.schedule = Proportional(max_value, min_value, max_lr, min_lr)

    @property
    def value(self) -> float:
        """The value at the present learning rate."""
        group = self.pytorch_lr_scheduler.optimizer.param_groups[0]
        return self.schedule.of_group(0, group)

    def step(self) -> float:
        """The value at the present learning rate; there is nothing to count."""
        return self.value

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the learning rate is in the state of its optimizer."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Nothing is needed."""
