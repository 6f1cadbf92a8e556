"""The loop of a pack: epochs of all members, until each of them has ended.

A member ends by itself: where a rule stops it, where its loss is no number, or at its
last epoch. Those that are left go on in memory of their own size, so that nothing is
computed for a member that has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from steppe.errors import SteppeError
from steppe_lab.datasets import Split
from steppe_lab.progress import Progress, Report
from steppe_lab.training.callbacks.abstract import nothing
from steppe_lab.training.callbacks.history import WRITE_EVERY, History
from steppe_lab.training.failures import check_finite
from steppe_lab.training.loop import KEEP_EVERY, Trained, close_epoch, trained
from steppe_lab.training.packed.forms import ROWS, packed_form_of
from steppe_lab.training.packed.network import (
    AbstractPackedNetwork,
    CannotPackError,
)
from steppe_lab.training.packed.pack import Member, Pack, TrainingBatches
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.starts import Start
from steppe_lab.training.state import TrainingState

Ended = Callable[[int, Trained | SteppeError], None]
_KEEPING = 0.05  # share of the time that goes into states to resume from, at most


def train_packed(
    recipes: Sequence[Recipe],
    split: Split,
    *,
    ended: Ended,
    began: Callable[[], None] = nothing,
    report: Report | None = None,
    resume: Sequence[bytes | None] | None = None,
    keep: Callable[[int, bytes], None] | None = None,
    keep_every: float = KEEP_EVERY,
    folders: Sequence[Path | None] | None = None,
    starts: Sequence[Start | None] | None = None,
) -> None:
    """Train networks of one structure together.

    Each gets the weights that its training alone gives, to rounding: float32 sums are
    taken in another order. Its state to resume from is that of a training alone.

    Args:
        recipes: of one structure, see `packs`.
        split: samples to train and to judge on.
        ended: called as soon as a member has ended, with its index and the network or
            the error that it ended with.
        began: called before the first step, when it is certain that there will be one.
        report: called with the progress of all that have not ended, after every epoch.
        resume: states of the members to continue from; None for those that have none.
        keep: called with the index of a member and its state now and then.
        keep_every: seconds between two states of a member; longer where keeping would
            take more than a twentieth of the time.
        folders: where callbacks keep the files of each member; None for none.
        starts: weights to begin with; None for those that the seed gives.

    Raises:
        CannotPackError: the network, the data or a rule does not allow it; nothing has
            been trained then.
    """
    going = [
        Member(
            index,
            _state(
                recipe,
                split,
                folders[index] if folders else None,
                starts[index] if starts else None,
                resume[index] if resume else None,
                report,
            ),
        )
        for index, recipe in enumerate(recipes)
    ]
    form = packed_form([member.state for member in going], split)
    began()
    _Loop(going, form, split, ended, report, keep, keep_every).run()


def packed_form(
    states: Sequence[TrainingState], split: Split
) -> type[AbstractPackedNetwork]:
    """The form in which networks are packed.

    Raises:
        CannotPackError: there is none.
    """
    terms = states[0].task.terms(split.train.targets)
    if not bool((terms == terms[0]).all()):
        raise CannotPackError("its samples have unlike numbers of terms")
    inputs, _ = split.train.batch(slice(0, 2 * ROWS))
    return packed_form_of([states[0].model, states[-1].model], inputs)


def _state(
    recipe: Recipe,
    split: Split,
    folder: Path | None,
    start: Start | None,
    resume: bytes | None,
    report: Report | None,
) -> TrainingState:
    state = TrainingState.fresh(recipe, split, folder, start)
    if resume is not None and not state.load(resume):
        if report is not None:
            text = "the state that was kept cannot be used: training begins anew"
            report(Progress(text=text))
        state = TrainingState.fresh(recipe, split, folder, start)
    return state


class _Loop:
    """The epochs of members that have not ended."""

    def __init__(
        self,
        going: Sequence[Member],
        form: type[AbstractPackedNetwork],
        split: Split,
        ended: Ended,
        report: Report | None,
        keep: Callable[[int, bytes], None] | None,
        keep_every: float,
    ) -> None:
        self._going = list(going)
        self._form, self._split = form, split
        self._ended, self._report = ended, report
        self._keep, self._keep_every = keep, keep_every
        self._saved, self._keeping = time.monotonic(), 0.0  # seconds of the last time
        for member in going:
            history = member.state.callbacks["history"]
            if isinstance(history, History):  # many files, as often as one of them
                history.write_every = WRITE_EVERY * len(going)

    def run(self) -> None:
        batches = TrainingBatches(self._going[0].state.resident["train"])
        for member in self._going:
            for callback in member.state.callbacks.values():
                callback.begin(member.state)
        for member in [m for m in self._going if not m.state.goes_on]:
            self._end(member, trained(member.state))
        pack: Pack | None = None
        with torch.random.fork_rng(devices=[]):
            while self._going:
                # After a stop some may be behind: they catch up first.
                epoch = min(member.state.epoch for member in self._going)
                active = [m for m in self._going if m.state.epoch == epoch]
                if pack is None or pack.members != active:
                    pack = Pack(active, self._form, batches)
                self._epoch(pack)
                self._keep_states()

    def _epoch(self, pack: Pack) -> None:
        began = time.monotonic()
        rows = pack.train_epoch()
        state = pack.members[0].state
        scored = state.epochs.scored(state.epoch + 1)
        if scored:
            for row, scores in zip(rows, pack.scores(self._split), strict=True):
                row |= scores
        share = (time.monotonic() - began) / len(pack.members)
        for member, row in zip(pack.members, rows, strict=True):
            state = member.state
            try:
                check_finite("running training", row["running_loss"], state.epoch + 1)
                if scored:
                    check_finite("final training", row["train_loss"], state.epoch + 1)
                close_epoch(state, row, state.seconds + share)
            except SteppeError as error:  # of this member alone
                self._end(member, error)
                continue
            if not state.goes_on:
                self._end(member, trained(state))
        if self._report is not None and self._going:
            state = self._going[0].state
            count, epochs = len(self._going), state.epochs.count
            text = f"epoch {state.epoch}/{epochs}, {count} networks together"
            self._report(Progress(state.epoch, epochs, text))

    def _end(self, member: Member, outcome: Trained | SteppeError) -> None:
        self._going.remove(member)
        member.leave()
        self._ended(member.index, outcome)

    def _keep_states(self) -> None:
        began = time.monotonic()
        every = self._keep_every and max(self._keep_every, self._keeping / _KEEPING)
        if self._keep is None or began - self._saved < every:
            return
        for member in list(self._going):
            try:
                self._keep(member.index, member.state.to_bytes())
            except SteppeError as error:
                self._end(member, error)
        self._saved = time.monotonic()
        self._keeping = self._saved - began
