"""Checkpoints along a training: files in the folder of the run, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steppe_lab.datasets import Split
from steppe_lab.store.json_files import write_atomically
from steppe_lab.training import checkpoints
from steppe_lab.training.callbacks.abstract import AbstractCallback, no_state, nothing

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

FOLDER = "checkpoints"
ENDING = ".safetensors"
STATE_ENDING = ".training.pt"  # the state of the training beside a checkpoint
INITIAL, HALF, CONVERGED, LAST = "initial", "half", "converged", "last"
# A network that was chosen by its test score must say so: its score is too good.
BEST = {"validation": "best", "test": "best-on-test"}


def name_of_epoch(epoch: int) -> str:
    """The name of the checkpoint after an epoch, counted from 1; sorted by epoch."""
    return f"epoch-{epoch:04d}"


class Checkpoints(AbstractCallback):
    """Keeps the network as the training would give it if it ended then.

    A name that comes again, as that of the best epoch does, is written over. The last
    weights are not among them: they are the model of the run.

    Args:
        folder: gets the files.
        split: samples that are trained and judged on.
        every: epochs from one file to the next; 0 for none but those with a name.
        states: write the state of the training beside each, and that of its end.
    """

    before_epoch = before_step = after_step = nothing
    # All follows from the state of the training: a stop leaves nothing to remember.
    state_dict, load_state_dict = no_state, nothing

    def __init__(self, folder: Path, split: Split, *, every: int, states: bool) -> None:
        self._folder = folder
        self._split = split
        self._every = every
        self._states = states

    def begin(self, state: TrainingState) -> None:
        """Keep the initial weights."""
        if state.epoch == 0:
            self._write(state, [INITIAL])

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Keep the weights of an epoch under each name that it has."""
        epoch, recipe = state.epoch, state.recipe
        names = {
            name_of_epoch(epoch): self._every and epoch % self._every == 0,
            HALF: epoch == -(-state.epochs.count // 2),
            BEST[recipe.held_out]: epoch == state.best_epoch,
            CONVERGED: epoch == state.converged_at,
        }
        self._write(state, [name for name, due in names.items() if due])
        if self._states and not state.goes_on:
            write_atomically(self._folder / f"{LAST}{STATE_ENDING}", state.to_bytes())

    def _write(self, state: TrainingState, names: list[str]) -> None:
        if not names:
            return
        split = self._split
        with state.as_trained(split):
            contents = checkpoints.to_bytes(
                state.model,
                state.recipe,
                split.in_shape,
                split.outputs,
                split.fingerprint,
                state.epoch,
            )
        for name in names:
            # The state first: a checkpoint that is there has its state beside it.
            if self._states:
                path = self._folder / f"{name}{STATE_ENDING}"
                write_atomically(path, state.to_bytes())
            write_atomically(self._folder / f"{name}{ENDING}", contents)
