"""The interface of callbacks, which act beside the steps of a training.

The loop knows the network, the optimizer and the learning rate; everything that an
option adds (eigenvalues that are followed, a rule that stops, files that are written)
is a callback. All of them are called at every place, in the order of `order.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from steppe.stepping.loop import nothing as nothing

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


class AbstractCallback(ABC):
    """Acts beside the steps; a place where it does nothing is `nothing`.

    A callback may set `lr_scale` and `stopped` of the state, and add numbers to the row
    of an epoch. Values that it must remember over a stop stand in its state.

    Attributes:
        extra_gradients: gradients of whole batches that led the method, beside those of
            its steps.
        results: values for the result of the training, as plain data.
    """

    extra_gradients: float = 0.0
    results: Mapping[str, Any] = {}

    @abstractmethod
    def begin(self, state: TrainingState) -> None:
        """Act before the first step, and before the next one after a stop."""

    @abstractmethod
    def before_epoch(self, state: TrainingState) -> None:
        """Act before the steps of epoch `state.epoch`, counted from 0."""

    @abstractmethod
    def before_step(self, state: TrainingState, step: int) -> None:
        """Act when the learning rate of a step is set, counted from 0."""

    @abstractmethod
    def after_step(self, state: TrainingState, step: int, loss: Tensor | float) -> None:
        """Act after a step whose gradient is still there.

        Args:
            state: of the training.
            step: counted from 0.
            loss: of the batch, before the step, on the device: whoever reads its
                number waits for the device.
        """

    @abstractmethod
    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Act after an epoch; `state.epoch` counts it already.

        Args:
            state: of the training.
            row: numbers of the epoch, with scores where it was scored; it may be added
                to, for the history.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Values to go on from after a stop: tensors and plain data."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the values of `state_dict`."""


def no_state(*_: object) -> dict[str, Any]:
    """The state of a callback that remembers nothing."""
    return {}
