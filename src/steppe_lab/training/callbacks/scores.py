"""Scores at the end of a training that a rule has stopped, and the best epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steppe_lab.datasets import Split
from steppe_lab.training.callbacks.abstract import AbstractCallback, no_state, nothing
from steppe_lab.training.evaluation import is_better
from steppe_lab.training.scoring import score

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


class Scores(AbstractCallback):
    """Scores an epoch that a rule has made the last, and notes the best one so far.

    Args:
        split: samples to score on.
    """

    begin = before_epoch = before_step = after_step = nothing
    state_dict, load_state_dict = no_state, nothing

    def __init__(self, split: Split) -> None:
        self._split = split

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Every training ends with scores; of equal epochs the first is the best."""
        scored = state.epochs.scored(state.epoch)
        if state.stopped and not scored:
            row |= score(state, self._split)
            scored = True
        best = state.history[state.best_epoch - 1] if state.best_epoch else None
        by = state.task.headline
        if scored and (best is None or is_better(row, best, by)):
            state.best_epoch = state.epoch
