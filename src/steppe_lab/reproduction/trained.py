"""Claims about networks that are trained for them: a study of cells and seeds."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.claims import AbstractClaim, Request, is_named
from steppe_lab.reproduction.published import Cell, Scale
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.statistics.intervals import mean_interval
from steppe_lab.studies.settings import StudySettings
from steppe_lab.training.settings import options_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from steppe_lab.store.store import Store
    from steppe_lab.studies.plan import Plan, Trial
    from steppe_lab.studies.stored import StoredStudy

    Further = Callable[[Trial], Mapping[str, BaseModel]]
    Read = Callable[[Store, Mapping[str, str]], float | None]


@dataclass(frozen=True, kw_only=True)
class TrainedClaim(AbstractClaim):
    """A claim whose cells are trainings, each with several seeds.

    Our number of a cell is the mean over its seeds of a column of the study's table,
    such as best_test_error, or a measure; or what `read` reads from the runs.

    Args:
        experiment: name of the experiment, which begins that of the study.
        base: settings that all cells share, by the names that `steppe train` has.
        sizes: scales by name; "full" is the published size.
        measures: of every network, as in a study.
        analysis: how networks are measured, as in a study.
        protocol: column of our number by the published protocol, where that is not the
            correct one, such as best_test_error beside last-epoch errors; "" for none.
        protocol_settings: settings of a second training of each cell, by the published
            protocol, whose column of the quantity is our number by that protocol.
        further: records of runs that follow each training beside its measures, such as
            attacks, by a word for each.
        read: our number of one network, in the units of its file, from the store and
            the ids of its runs by word, "training" among them, all of which are
            finished; None where there is none. It takes the place of the column.
    """

    experiment: str
    base: Mapping[str, Any]
    sizes: Mapping[str, Scale]
    measures: tuple[str, ...] = ()
    analysis: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""
    protocol_settings: Mapping[str, Any] = field(default_factory=dict)
    further: Further | None = None
    read: Read | None = None

    @property
    def scales(self) -> tuple[str, ...]:
        """Names of the sizes."""
        return tuple(self.sizes)

    def of_scale(self, scale: str) -> tuple[Cell, ...]:
        """The cells that are trained at a scale."""
        if scale not in self.sizes:
            return ()
        named = self.sizes[scale].cells
        if named is None:
            return self.cells
        for name in named:
            if not any(is_named(cell, (name,)) for cell in self.cells):
                raise unknown_name(
                    f"cell of {self.name}", name, [cell.name for cell in self.cells]
                )
        return tuple(cell for cell in self.cells if is_named(cell, named))

    def command(self, cell: Cell, scale: str) -> str:
        """`steppe train` with the settings of a cell, for its first seed."""
        from steppe_lab.studies.expansion import train_settings

        words = options_of(train_settings(self.point(cell, scale)))
        return shlex.join(["steppe", "train", *words])

    def study(self, request: Request, store: Store) -> StoredStudy:
        """The trainings of the cells of a scale, of which only those asked for run."""
        from steppe_lab.studies.stored import StoredStudy, version_of

        settings = self.settings(request)
        whole = self._plan(settings)
        names = {cell.name for cell in self.chosen(request)}
        of = self._cells_of(request.scale, whole)
        plan = whole.of([t for run, t in whole.items() if of[run][0].name in names])
        return StoredStudy(settings, version_of(store, settings), plan, store)

    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Means over seeds of our numbers."""
        assert study is not None
        cell_of = self._cells_of(request.scale, self._plan(study.settings))
        values: dict[str, list[float]] = {}
        by_protocol: dict[str, list[float]] = {}
        reasons: dict[str, str] = {}
        for run, value, protocol in self._numbers(study, reasons):
            cell, second = cell_of[run]
            if value is not None:
                of = by_protocol if second else values
                of.setdefault(cell.name, []).append(self.quantity.factor * value)
            if protocol is not None:
                theirs = by_protocol.setdefault(cell.name, [])
                theirs.append(self.quantity.factor * protocol)
        why = self._reasons(reasons, cell_of)
        ours: dict[str, Ours] = {}
        for name in dict.fromkeys(cell_of[run][0].name for run in study.plan):
            own = by_protocol.get(name)
            # Beside a published protocol, a number without it is no answer alone.
            if name in values and (own or not self.protocol_settings):
                ours[name] = Ours(
                    value=mean_interval(values[name]),
                    protocol=mean_interval(own) if own else None,
                )
            else:
                none = f"no {self.quantity.title}"
                ours[name] = Ours(why_not=why.get(name, none))
        return ours

    def by_seed(
        self, request: Request, study: StoredStudy
    ) -> dict[str, dict[int, float]]:
        """Our number of every network that has one, by its cell and its seed."""
        cell_of = self._cells_of(request.scale, self._plan(study.settings))
        numbers: dict[str, dict[int, float]] = {}
        for run, value, _ in self._numbers(study, {}):
            cell, second = cell_of[run]
            if value is not None and not second:
                own = numbers.setdefault(cell.name, {})
                own[study.plan[run].recipe.seed] = self.quantity.factor * value
        return numbers

    def settings(self, request: Request) -> StudySettings:
        """The study of the cells of a scale, with a zip of all that they differ in."""
        size = self.sizes[request.scale]
        scale, cells = request.scale, self.of_scale(request.scale)
        points = [self.point(cell, scale) for cell in cells]
        if self.protocol_settings:
            points += [{**point, **self.protocol_settings} for point in points]
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

    def point(self, cell: Cell, scale: str) -> dict[str, Any]:
        """All settings of a training of a cell that the experiment says."""
        size = self.sizes[scale].settings
        return {**self.base, **cell.settings, **size, **cell.scales.get(scale, {})}

    def _plan(self, settings: StudySettings) -> Plan:
        """All trainings of a scale by their cells, each with the runs that follow."""
        from steppe_lab.studies.expansion import completed, plan_of_study

        plan = plan_of_study(completed(settings))
        cell_of = self._cells_of(settings.scale, plan)
        # All settings that cells differ in would be long names.
        plan = plan.of([_named(t, *cell_of[run]) for run, t in plan.items()])
        return plan if self.further is None else plan.also(self.further)

    def _numbers(
        self, study: StoredStudy, reasons: dict[str, str]
    ) -> Iterator[tuple[str, float | None, float | None]]:
        """Each finished network with its number and that by the published protocol."""
        if self.read is not None:
            store = study.store
            for run in study.plan:
                runs = {"training": run, **study.study.followers(run)}
                if all(map(store.is_finished, runs.values())):
                    yield run, self.read(store, runs), None
                else:
                    left = [r for r in runs.values() if not store.is_finished(r)]
                    reasons[run] = study.study.why_not(left[0])
            return
        table = study.table()
        missing = {each.trial: each.reason for each in table.dropped}
        for run, trial in study.plan.items():
            if trial.name in missing:
                reasons[run] = missing[trial.name]
        nothing = [None] * len(table)
        yield from zip(
            table.columns.get("run", ()),
            table.columns.get(self.quantity.name, nothing),
            table.columns.get(self.protocol, nothing),
            strict=True,
        )

    def _reasons(
        self, reasons: Mapping[str, str], cell_of: Mapping[str, tuple[Cell, bool]]
    ) -> dict[str, str]:
        """By cell: why it has no number, failures first; from the reasons of runs."""
        why: dict[str, str] = {}
        for run, reason in reasons.items():
            cell, second = cell_of[run]
            if reason != NOT_FINISHED and why.get(cell.name) == NOT_FINISHED:
                del why[cell.name]
            said = f"by the published protocol: {reason}" if second else reason
            why.setdefault(cell.name, said)
        return why

    def _cells_of(self, scale: str, whole: Plan) -> dict[str, tuple[Cell, bool]]:
        """By run: its cell, and whether it is the one by the published protocol."""
        cells: Sequence[Cell] = self.of_scale(scale)
        pairs = [(cell, False) for cell in cells]
        if self.protocol_settings:
            pairs += [(cell, True) for cell in cells]
        # Expansion takes all points of the zip for a seed before the next seed.
        return {run: pairs[n % len(pairs)] for n, run in enumerate(whole)}


NOT_FINISHED = "not finished"


def _named(trial: Trial, cell: Cell, by_protocol: bool) -> Trial:
    protocol = ", published protocol" if by_protocol else ""
    name = f"{cell.name}{protocol}, seed {trial.recipe.seed}"
    return replace(trial, name=name)


def _value(point: Mapping[str, Any], key: str) -> Any:
    """A setting, or its default where a cell does not say it."""
    field_of = TrainSettings.model_fields.get(key)
    return point.get(key, None if field_of is None else field_of.default)
