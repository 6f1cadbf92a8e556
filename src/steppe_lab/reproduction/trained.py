"""Claims about networks that are trained for them: a study of cells and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.claims import AbstractClaim, Request, chosen_cells
from steppe_lab.reproduction.published import Cell, Scale
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.statistics.intervals import mean_interval
from steppe_lab.store.store import Store
from steppe_lab.studies.expansion import plan_of_study
from steppe_lab.studies.plan import Plan
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.stored import StoredStudy, version_of


@dataclass(frozen=True, kw_only=True)
class TrainedClaim(AbstractClaim):
    """A claim whose cells are trainings, each with several seeds.

    Our number of a cell is the mean over its seeds of a column of the study's table,
    such as best_test_error, or a measure.

    Args:
        experiment: name of the experiment, which begins that of the study.
        base: settings that all cells share, by the names that `steppe train` has.
        sizes: scales by name; "full" is the published size.
        measures: of every network, as in a study.
        analysis: how networks are measured, as in a study.
    """

    experiment: str
    base: Mapping[str, Any]
    sizes: Mapping[str, Scale]
    measures: tuple[str, ...] = ()
    analysis: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the sizes."""
        return tuple(self.sizes)

    def study(self, request: Request, store: Store) -> StoredStudy:
        """The trainings of the cells of a scale, of which only those asked for run."""
        settings = self.settings(request)
        whole = plan_of_study(settings)
        names = {cell.name for cell in self.chosen(request)}
        of = self._cells_of(request, whole)
        plan = whole.of([t for run, t in whole.items() if of[run].name in names])
        return StoredStudy(settings, version_of(store, settings), plan, store)

    def chosen(self, request: Request) -> tuple[Cell, ...]:
        """The cells of a scale that are asked for."""
        return chosen_cells(self._of_scale(request.scale), request.cells)

    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Means over seeds of the column of the quantity."""
        assert study is not None
        whole = plan_of_study(study.settings)
        cell_of = self._cells_of(request, whole)
        table = study.table()
        values: dict[str, list[float]] = {}
        column = table.columns.get(self.quantity.name, ())
        for run, value in zip(table.columns.get("run", ()), column, strict=True):
            if value is not None:
                own = values.setdefault(cell_of[run].name, [])
                own.append(self.quantity.factor * float(value))
        missing = {each.trial: each.reason for each in table.dropped}
        ours: dict[str, Ours] = {}
        for run, trial in study.plan.items():
            name = cell_of[run].name
            if name in values:
                ours[name] = Ours(value=mean_interval(values[name]))
            else:
                why = missing.get(trial.name, f"no {self.quantity.title}")
                ours.setdefault(name, Ours(why_not=why))
        return ours

    def settings(self, request: Request) -> StudySettings:
        """The study of the cells of a scale, with a zip of all that they differ in."""
        self.check_scale(request.scale)
        size = self.sizes[request.scale]
        scale, cells = request.scale, self._of_scale(request.scale)
        points = [self._point(cell, scale) for cell in cells]
        keys = sorted({key for point in points for key in point})
        levels = {key: [_value(point, key) for point in points] for key in keys}
        varied = {k: v for k, v in levels.items() if any(x != v[0] for x in v)}
        return StudySettings.model_validate(
            {
                "name": f"{self.experiment}-{self.name}",
                "base": {k: v[0] for k, v in levels.items() if k not in varied},
                "zip": varied,
                "seeds": request.seeds or size.seeds,
                "measures": list(self.measures),
                "analysis": dict(self.analysis),
                "scale": scale,
            }
        )

    def _point(self, cell: Cell, scale: str) -> dict[str, Any]:
        """All settings of a training of a cell."""
        size = self.sizes[scale].settings
        return {**self.base, **cell.settings, **size, **cell.scales.get(scale, {})}

    def _of_scale(self, scale: str) -> Sequence[Cell]:
        named = self.sizes[scale].cells
        if named is None:
            return self.cells
        by_name = {cell.name: cell for cell in self.cells}
        for name in named:
            if name not in by_name:
                raise unknown_name(f"cell of {self.name}", name, by_name)
        return [by_name[name] for name in named]

    def _cells_of(self, request: Request, whole: Plan) -> dict[str, Cell]:
        """The cell of each training, by its run."""
        cells = self._of_scale(request.scale)
        # Expansion takes all points of the zip for a seed before the next seed.
        return {run: cells[n % len(cells)] for n, run in enumerate(whole)}


def _value(point: Mapping[str, Any], key: str) -> Any:
    """A setting, or what it is where a cell does not say."""
    return point.get(key, TrainSettings.model_fields[key].default)
