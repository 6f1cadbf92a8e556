"""Weight decay and L2 that change from epoch to epoch, and the record of batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from steppe.losses import L2
from steppe.schedules import StepSchedule
from steppe_lab.training.callbacks.abstract import AbstractCallback, no_state, nothing
from steppe_lab.training.trained_loss import TrainedLoss

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


class OverEpochs(AbstractCallback):
    """Sets the values of an epoch before its first step, and adds them to its row.

    The size of the batches is that of `Epochs`, which knows all steps beforehand.

    Args:
        schedules: values as functions of the epoch, by setting.
    """

    before_step = after_step = nothing
    # All follows from the epoch: a stop leaves nothing to remember.
    state_dict, load_state_dict = no_state, nothing

    def __init__(self, schedules: Mapping[str, StepSchedule]) -> None:
        self._schedules = schedules

    def begin(self, state: TrainingState) -> None:
        """Set the first values, for measurements before any step."""
        self.before_epoch(state)

    def before_epoch(self, state: TrainingState) -> None:
        """Set weight decay and L2; scores of the loss trained on follow."""
        values = {name: each(state.epoch) for name, each in self._schedules.items()}
        if "weight_decay" in values:
            for group in state.optimizer.param_groups:
                group["weight_decay"] = values["weight_decay"]
        if "l2" in values:
            penalty = L2(values["l2"], state.recipe.l2_on)
            if state.recipe.scored_loss == "trained":
                state.scored_loss = _penalised(state.scored_loss, penalty)
            state.loss = _penalised(state.loss, penalty)

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Add the values of the epoch that is over."""
        epoch = state.epoch - 1
        row |= {name: each(epoch) for name, each in self._schedules.items()}


def _penalised(loss: TrainedLoss, penalty: L2) -> TrainedLoss:
    return replace(loss, penalty=penalty if penalty.coefficient else None)
