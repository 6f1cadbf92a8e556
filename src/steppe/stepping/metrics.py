"""Metrics of a step: by-products that cost nothing more."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from steppe.errors import UsageError

Value = Tensor | float


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
