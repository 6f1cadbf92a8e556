"""Claims about trainings that go on from the network of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.reproduction.published import Cell
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.runs.settings import TrainSettings

if TYPE_CHECKING:
    from steppe_lab.store.store import Store
    from steppe_lab.studies.stored import StoredStudy

START = "start_from"  # the setting of a training that goes on


@dataclass(frozen=True, kw_only=True)
class ContinuedClaim(AbstractClaim):
    """A claim whose trainings begin with the weights that another one ended with.

    All of its seeds go on from the same network; they differ in what follows.

    Args:
        start: the training that is gone on from, of one cell and seed at each scale.
        trainings: that go on, with the quantity and the cells of this claim.
    """

    start: TrainedClaim
    trainings: TrainedClaim

    @property
    def scales(self) -> tuple[str, ...]:
        """Those of the trainings."""
        return self.trainings.scales

    def of_scale(self, scale: str) -> tuple[Cell, ...]:
        """Those of the trainings."""
        return self.trainings.of_scale(scale)

    def command(self, cell: Cell, scale: str) -> str:
        """`steppe train` with the settings of a cell; RUN stands for its start."""
        return f"{self.trainings.command(cell, scale)} --from RUN"

    def study(self, request: Request, store: Store) -> StoredStudy:
        """The training to go on from, and when that is finished the others."""
        from steppe_lab.analysis.starts import with_start
        from steppe_lab.runs.training import is_whole

        before = self.start.study(Request(scale=request.scale, seeds=1), store)
        (run,) = before.plan
        if not is_whole(store, run):
            return before
        named = TrainSettings(start_from=str(store.folder(run)))
        begun = {START: with_start(named, store).start_from}
        going_on = replace(self.trainings, base={**self.trainings.base, **begun})
        return going_on.study(request, store)

    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Numbers of the trainings, where they have begun."""
        assert study is not None
        if START in study.settings.base:
            return self.trainings.ours(request, study)
        why = "the training that it goes on from is not finished"
        return {cell.name: Ours(why_not=why) for cell in self.chosen(request)}
