"""Claims about two trainings of one seed: a difference, or a ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.reproduction.published import Cell
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.statistics.intervals import paired_difference, paired_ratio

if TYPE_CHECKING:
    from steppe_lab.store.store import Store
    from steppe_lab.studies.stored import StoredStudy


@dataclass(frozen=True, kw_only=True)
class PairedClaim(AbstractClaim):
    """A claim whose cells compare two cells of trainings, seed by seed.

    What seeds share, such as the initial weights, does not count as noise of the
    difference. The trainings are runs of the other claim, which does them once.

    Args:
        of: the trainings, and the quantity that is compared.
        pairs: by cell, the cell of the trainings whose number it is about, and the one
            that this is compared with.
        by: first minus second, or first over second.
    """

    of: TrainedClaim
    pairs: Mapping[str, tuple[str, str]]
    by: Literal["difference", "ratio"] = "ratio"

    @property
    def scales(self) -> tuple[str, ...]:
        """Those of the trainings."""
        return self.of.scales

    def study(self, request: Request, store: Store) -> StoredStudy:
        """The trainings of both cells of all pairs that are asked for."""
        return self.of.study(self._trainings(request), store)

    def of_scale(self, scale: str) -> tuple[Cell, ...]:
        """Cells of whose pairs the scale has both trainings."""
        trained = {cell.name for cell in self.of.of_scale(scale)}
        return tuple(c for c in self.cells if trained.issuperset(self.pairs[c.name]))

    def command(self, cell: Cell, scale: str) -> str:
        """None: a number of two trainings or more."""
        return ""

    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Means over seeds that both cells of a pair have."""
        assert study is not None
        by_seed = self.of.by_seed(self._trainings(request), study)
        return {
            cell.name: self._compared(*(by_seed.get(n, {}) for n in pair))
            for cell in self.chosen(request)
            for pair in [self.pairs[cell.name]]
        }

    def _compared(self, left: dict[int, float], right: dict[int, float]) -> Ours:
        seeds = sorted(left.keys() & right.keys())
        if not seeds:
            return Ours(why_not="no seed that both trainings have finished")
        both = [left[seed] for seed in seeds], [right[seed] for seed in seeds]
        if self.by == "difference":
            return Ours(value=paired_difference(*both))
        ratio = paired_ratio(*both)
        return Ours(value=ratio, why_not="" if ratio else "a value is not above 0")

    def _trainings(self, request: Request) -> Request:
        names = [name for c in self.chosen(request) for name in self.pairs[c.name]]
        return replace(request, cells=tuple(dict.fromkeys(names)))
