"""The state that a network carries from batch to batch, and its rules.

A text is cut into as many streams as a batch has rows. Row b of a batch goes on where
row b of the batch before ended, so the state after one is that before the other. It
is no part of the network: a batch has it beside its tokens, so that all passes of a
step, at whatever weights, begin with the same one. Every epoch begins with zeros;
trainings stop and go on between epochs, so nothing of it is saved.

Shape letters: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe_lab.datasets.samples import Batch
from steppe_lab.datasets.split import Split
from steppe_lab.models.carrying import AbstractCarrying, carries_state
from steppe_lab.training.epochs import batches_per_step
from steppe_lab.training.recipe import Recipe


class Carry:
    """State of the streams of a training.

    The state that goes on is that of the first pass over each row, which is at the
    weights before the step; gradients do not go back beyond a batch.

    Args:
        model: that is trained.
    """

    def __init__(self, model: AbstractCarrying) -> None:
        self._model = model
        self._after: Tensor | None = None  # the batch that was begun last
        self._passed = torch.zeros(0, dtype=torch.bool)  # its rows

    @classmethod
    def of(cls, recipe: Recipe, model: nn.Module) -> Carry | None:
        """The one that a recipe asks for; None for none."""
        if carries_state(recipe.model) and isinstance(model, AbstractCarrying):
            return cls(model)
        return None

    def clear(self) -> None:
        """Begin the streams anew."""
        self._after = None

    def begin(self, batch: Batch) -> Batch:
        """A batch with the state that each of its rows begins with."""
        tokens, targets = batch
        state = self._model.zero_state(len(targets))
        if self._after is not None:  # a last batch has rows of the first streams alone
            state = self._after[: len(targets)]
        self._after = torch.zeros_like(state)
        self._passed = torch.zeros(len(targets), dtype=torch.bool)
        return (tokens, state), targets

    def end(self, rows: Tensor, after: Tensor) -> None:
        """Note the state after a pass over some rows, unless there was one before.

        Args:
            rows: their positions in the batch that was begun last, on the host.
            after: the state of each.
        """
        if self._after is None:
            return
        first = ~self._passed[rows]
        if first.any():
            chosen = after.detach().to(self._after.dtype)
            self._after[rows[first]] = chosen[first]
            self._passed[rows] = True


def as_one_stream(
    model: AbstractCarrying, batches: Iterable[Batch]
) -> Iterator[tuple[Any, Tensor]]:
    """Outputs and targets of neighbouring pieces of a text, read from its beginning.

    Args:
        model: in eval mode.
        batches: on the device of the model; of pieces of one length, in their order.
    """
    state = model.zero_state(1)
    for tokens, targets in batches:
        outputs, state = model((tokens.flatten()[None], state))
        yield outputs.unflatten(1, tokens.shape)[0], targets


def check_carrying(recipe: Recipe, split: Split) -> None:
    """Refuse trainings in which no batch goes on where the one before ended.

    Raises:
        SettingError: names the setting and the way out.
    """
    if not carries_state(recipe.model):
        return
    fix = f"train with {recipe.model.name}:stateful=False, which shuffles the pieces"
    carries = f"{recipe.model.name} carries its state from batch to batch"
    if not (split.train.contiguous and split.test.contiguous):
        raise SettingError(
            f"{carries}, and its samples must be neighbouring pieces of one text, got "
            f"a part of {recipe.data} that is none; take the first ones with --subset "
            f"first, or {fix}."
        )
    if batches_per_step(recipe.optimizer) > 1:
        raise SettingError(
            f"{carries}, and a step must take one of them, got {recipe.optimizer} with "
            f"fresh batches; set fresh_batches=False, or {fix}."
        )
    if recipe.epoch_size is not None:
        raise SettingError(
            f"{carries}, and an epoch must be all of the text, got epoch_size "
            f"{recipe.epoch_size}; leave it out, or {fix}."
        )
    if recipe.processes > 1:
        raise SettingError(
            f"{carries}, and one process must train it, got {recipe.processes}; train "
            f"in one, or {fix}."
        )
