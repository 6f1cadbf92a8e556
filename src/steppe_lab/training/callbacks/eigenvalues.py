"""Eigenvalues followed along training, and directions for methods led by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError
from steppe.tracking.tracker import SpectrumTracker
from steppe_lab.training.callbacks.abstract import AbstractCallback, nothing
from steppe_lab.training.failures import TrainingFailedError

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


class Eigenvalues(AbstractCallback):
    """A tracker beside the loop; it leads an optimizer that wants directions.

    Args:
        tracker: of the network that the optimizer trains.
        optimizer: that trains it.
        batches: whole batches that one sum over the tracker's samples is worth.
    """

    before_epoch = before_step = nothing

    def __init__(
        self, tracker: SpectrumTracker, optimizer: Optimizer, batches: float
    ) -> None:
        self.tracker = tracker
        self._batches = batches
        self._lead: Callable[[Any], None] | None = getattr(
            optimizer, "set_directions", None
        )

    def begin(self, state: TrainingState) -> None:
        """Measure before the first step; after a stop, go on where it was."""
        if not self.tracker.rows:
            self.tracker.measure()
        self._give()

    def after_step(self, state: TrainingState, step: int, loss: Tensor | float) -> None:
        """Count a step whose gradient is still there."""
        with _failing(state.epoch + 1):
            self.tracker.observe()
            before = len(self.tracker.rows)
            self.tracker.after_step()
            if len(self.tracker.rows) > before:
                self._give()

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Count an epoch; its scores go into the tracker's row, if there is one."""
        with _failing(state.epoch):
            before = len(self.tracker.rows)
            scores = {name: value for name, value in row.items() if name != "epoch"}
            self.tracker.after_epoch(**scores)
            if len(self.tracker.rows) > before:
                self._give()

    @property
    def extra_gradients(self) -> float:  # type: ignore[override]
        """Products that gave directions, each two gradients of its samples.

        Where nothing is led by what the tracker measures, they are no part of the
        method.
        """
        if self._lead is None:
            return 0.0
        return 2 * self.tracker.products * self._batches

    @property
    def results(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The tracker's rows."""
        return {"tracked": self.tracker.rows}

    def state_dict(self) -> dict[str, Any]:
        """The tracker's."""
        return self.tracker.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the tracker's."""
        self.tracker.load_state_dict(dict(state))

    def _give(self) -> None:
        if self._lead is not None and self.tracker.pairs is not None:
            self._lead(self.tracker.pairs.vectors)


@contextmanager
def _failing(epoch: int) -> Iterator[None]:
    """Eigenvalues that do not exist are a failure of the training."""
    try:
        yield
    except SettingError as error:
        reason = str(error).partition(";")[0]
        raise TrainingFailedError(
            f"the spectrum could not be followed in epoch {epoch} ({reason}); lower "
            "the learning rate or the radius."
        ) from error
