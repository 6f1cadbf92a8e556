"""When a tracker measures: every so many epochs or steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from steppe.errors import check_choice, check_count

Unit = Literal["epoch", "step"]


class MeasurementSchedule:
    """Counts epochs and steps, and says whether a measurement is due.

    Args:
        every: epochs or steps from one measurement to the next, >= 1.
        unit: of `every`.

    Raises:
        SettingError: a setting out of range.

    Attributes:
        epoch: epochs so far.
        step: steps so far.
    """

    def __init__(self, every: int, unit: Unit) -> None:
        check_count("every", every, 1)
        check_choice("unit", unit, get_args(Unit))
        self._every = every
        self._unit = unit
        self.epoch = self.step = 0

    def after_step(self) -> bool:
        """Count a step; whether a measurement is due."""
        self.step += 1
        return self._unit == "step" and self.step % self._every == 0

    def after_epoch(self) -> bool:
        """Count an epoch; whether a measurement is due."""
        self.epoch += 1
        return self._unit == "epoch" and self.epoch % self._every == 0

    def state_dict(self) -> dict[str, int]:
        """Counts so far."""
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the counts of `state_dict`."""
        self.epoch, self.step = state["epoch"], state["step"]
