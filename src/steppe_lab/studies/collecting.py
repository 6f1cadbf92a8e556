"""The table of a study from the results in its store; every file is read once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from steppe.errors import StoreError
from steppe.registry.registry import Choice, unknown_name
from steppe_lab.runs.analysis import keys_of, read_measure
from steppe_lab.runs.attacking import chosen_attacks
from steppe_lab.runs.attacking import keys_of as attack_keys
from steppe_lab.runs.provenance import packed_with
from steppe_lab.studies.expansion import ATTACK, analysis_name, factors_of
from steppe_lab.studies.plan import Trial
from steppe_lab.studies.reasons import alike_reasons
from steppe_lab.studies.robustness import robust_cells
from steppe_lab.studies.rows import scores
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.study import Study
from steppe_lab.studies.table import STDERR, Dropped, Refused, StudyTable
from steppe_lab.tasks import Metric, stored_headline

NONE = "none"  # null among levels that are words, such as no wrapping optimizer
PARENT, PACKED = "parent", "packed_with"  # columns of tables that need them alone
BEST = "best_"  # before the names of scores at the best epoch
_SCORES = ("train_", "test_")


@dataclass(frozen=True)
class Column:
    """A measure of a study: its column, and where its numbers are."""

    name: str
    follower: str  # the plan's word for the analysis
    key: str  # in the result of the analysis


def columns_of(measures: Sequence[Sequence[str]]) -> list[Column]:
    """Columns of measures: their names, or their texts where two have one name.

    Args:
        measures: texts, in groups that are measured together.
    """
    read = [[read_measure(text) for text in group] for group in measures]
    names = [choice.name for group in read for choice in group]

    def named(choice: Choice, text: str) -> str:
        return choice.name if names.count(choice.name) == 1 else text

    return [
        Column(named(choice, text), analysis_name(number), key)
        for number, (group, texts) in enumerate(zip(read, measures), start=1)
        for choice, text, key in zip(group, texts, keys_of(group), strict=True)
    ]


def table_of(
    study: Study,
    settings: StudySettings,
    columns: Sequence[Column] | None = None,
) -> StudyTable:
    """The rows of the trials that are finished, with the columns that all tables have.

    They are, in this order: trial, run, seed, the factors, epochs, stopped,
    parameters, parent where a trial has one, packed_with where a network was trained
    together with others (how many, as that changes numbers by rounding), scores of the
    last epoch by their names, those of the best epoch as best_NAME, best_epoch, gap,
    accuracies under the attacks of the study (`robustness.py`) and for each measure its
    value, each with its standard error. A cell is None where there is no number: a
    measure that was refused, one that is not finished, a value that is not finite.

    Args:
        study: trials, and the store of their results.
        settings: the study that the trials are of.
        columns: of its measures; None for those that their texts give.

    Returns:
        The table. Trials that have failed or are not finished, and those that a rule
        of the study leaves out, are in `dropped`, each with its reason.

    Raises:
        StoreError: a result is damaged.
        UnknownNameError: a rule or the gap names a score that the results lack.
    """
    if columns is None:
        columns = columns_of(settings.measures)
    table = _Rows(settings, list(columns))
    for run, trial in study.plan.items():
        row = table.row(study, run, trial)
        if isinstance(row, Dropped):
            table.dropped.append(row)
        else:
            table.add(row)
    judged = {trial.recipe.held_out for trial in study.plan.values()}
    table.judged_on = "test" if "test" in judged else "validation"
    return table.finished()


def ruled_out(table: StudyTable) -> dict[str, str]:
    """Trials that a rule of their study leaves out of its table, with the reasons."""
    return {
        each.trial: each.reason for each in table.dropped if isinstance(each, RuledOut)
    }


def refused_by(study: Study, settings: StudySettings) -> tuple[Refused, ...]:
    """Measures that networks of a study refused, by the analyses that are finished."""
    columns = columns_of(settings.measures)
    asked: list[Mapping[str, str]] = []
    for run in study.plan:
        analyses: dict[str, Mapping[str, Any]] = {}
        for name, follower in study.followers(run).items():
            if name == ATTACK or not study.store.is_finished(follower):
                continue
            try:
                analyses[name] = study.store.result(follower).get("measures", {})
            except StoreError:  # which the doctor names
                continue
        if analyses:
            asked.append(_reasons(columns, analyses))
    return _counted(asked)


def _reasons(
    columns: Sequence[Column], analyses: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Reasons of the measures that one network refused."""
    made = {}
    for column in columns:
        record = analyses.get(column.follower, {}).get(column.key, {})
        if reason := record.get("refusal"):
            # The name of the measure stands before the reason wherever it is shown.
            made[column.name] = str(reason).removeprefix(f"{column.name} ").rstrip(".")
    return made


def _counted(asked: Sequence[Mapping[str, str]]) -> tuple[Refused, ...]:
    """Refusals of networks, one for each measure and reasons that are alike."""
    by_measure: dict[str, list[str]] = {}
    for each in asked:
        for measure, reason in each.items():
            by_measure.setdefault(measure, []).append(reason)
    return tuple(
        Refused(measure, text, len(places), len(asked))
        for measure, reasons in sorted(by_measure.items())
        for text, places in sorted(alike_reasons(reasons).items())
    )


class RuledOut(Dropped):
    """A trial that is finished, and that a rule of the study leaves out."""


@dataclass
class _Rows:
    settings: StudySettings
    measures: list[Column]
    rows: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, dict[str, str]] = field(default_factory=dict)  # by run
    dropped: list[Dropped] = field(default_factory=list)
    samples: dict[str, int] = field(default_factory=dict)  # behind a gap of rates
    judged_on: str = ""

    def row(self, study: Study, run: str, trial: Trial) -> dict[str, Any] | Dropped:
        """The row of a trial, or why it has none."""
        store = study.store
        if not store.is_finished(run):
            return Dropped(trial.name, study.why_not(run))
        result = store.result(run)
        results: dict[str, Mapping[str, Any]] = {}
        missing = ""
        for name, follower in study.followers(run).items():
            if store.is_finished(follower):
                results[name] = store.result(follower)
            else:
                missing = missing or f"{name}: {study.why_not(follower)}"
        # A study that gets further measures keeps its rows while they are computed.
        if missing and not results:
            return Dropped(trial.name, missing)
        try:
            row = self._row(study, run, trial, result)
            row |= self._attacked(results.pop(ATTACK, None))
            analyses = {n: each.get("measures", {}) for n, each in results.items()}
            row |= self._measured(analyses)
            self.refusals[run] = _reasons(self.measures, analyses)
        except (ValidationError, AttributeError, KeyError, TypeError) as error:
            why = "values of another kind"
            raise store.damaged(run, "result.json", why) from error
        return row

    def add(self, row: dict[str, Any]) -> None:
        """Take a row in, unless a rule of the study leaves it out."""
        for condition in self.settings.keep:
            condition.check_names(row, "column")
            lacking = [name for name in sorted(condition.names) if row[name] is None]
            if lacking:
                why = f"{condition.text}: {lacking[0]} has no value"
            elif condition.holds(row):
                continue
            else:
                why = condition.why_not(row)
            self.dropped.append(RuledOut(row["trial"], why))
            return
        self.rows.append(row)

    def finished(self) -> StudyTable:
        """The table of all rows."""
        samples = {self.samples.get(row["run"]) for row in self.rows}
        factors = tuple(factors_of(self.settings).values())
        before = ["trial", "run", "seed", *factors, "epochs", "stopped", "parameters"]
        own: dict[str, None] = dict.fromkeys(before)
        for row in self.rows:  # scores of unlike tasks may differ
            own |= dict.fromkeys(row)
        own |= dict.fromkeys(["gap", *self._attacked(None), *self._measured({})])
        for name in (PARENT, PACKED):
            if not any(row.get(name) for row in self.rows):
                own.pop(name, None)
        return StudyTable(
            name=self.settings.stored_name,
            columns={name: self._column(name, name in factors) for name in own},
            factors=factors,
            measures=tuple(column.name for column in self.measures),
            gap="gap",
            dropped=tuple(self.dropped),
            test_samples=samples.pop() if len(samples) == 1 else None,
            refused=_counted([self.refusals[row["run"]] for row in self.rows]),
            judged_on=self.judged_on,
        )

    def _column(self, name: str, is_factor: bool) -> list[Any]:
        """Cells of a column; null among the words of a factor is a word too."""
        cells = [row.get(name) for row in self.rows]
        if is_factor and any(isinstance(cell, str) for cell in cells):
            # A missing cell would leave these trials out of all statistics.
            return [NONE if cell is None else cell for cell in cells]
        return cells

    def _row(
        self, study: Study, run: str, trial: Trial, result: Mapping[str, Any]
    ) -> dict[str, Any]:
        last, best = scores(result["last"]), scores(result["best"])
        gap = self._gap(
            last if self.settings.analysis.gap_at == "last" else best, result
        )
        headline = stored_headline(result)
        if _is_share(self.settings.analysis.gap or headline.name, headline):
            self.samples[run] = int(result["test_samples"])
        return {
            "trial": trial.name,
            "run": run,
            "seed": trial.recipe.seed,
            **trial.factors,
            "epochs": _whole(last["epoch"]),
            "stopped": result.get("stopped", ""),
            "parameters": result["parameters"],
            PARENT: study.parent(run) or None,
            PACKED: packed_with(study.store.folder(run)),
            **dict(_named(last)),
            **{f"{BEST}{name}": value for name, value in _named(best)},
            "best_epoch": _whole(best["epoch"]),
            "gap": gap,
        }

    def _gap(self, row: Mapping[str, float], result: Mapping[str, Any]) -> float | None:
        """Test minus train of a score; shares in percentage points."""
        headline = stored_headline(result)
        name = self.settings.analysis.gap or headline.name
        if f"train_{name}" not in row or f"test_{name}" not in row:
            known = {each.partition("_")[2] for each in row if each.startswith("test_")}
            raise unknown_name("score of a gap", name, known)
        gap = row[f"test_{name}"] - row[f"train_{name}"]
        return _finite(100.0 * gap if _is_share(name, headline) else gap)

    def _attacked(self, result: Mapping[str, Any] | None) -> dict[str, float | None]:
        attack = self.settings.attack
        return robust_cells(self._attacks, attack.eps, result) if attack else {}

    @cached_property
    def _attacks(self) -> tuple[str, ...]:
        """Keys of the attacks of the study in results."""
        attack = self.settings.attack
        return attack_keys(chosen_attacks(attack.attacks)) if attack else ()

    def _measured(
        self, analyses: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, float | None]:
        cells: dict[str, float | None] = {}
        for column in self.measures:
            record = analyses.get(column.follower, {}).get(column.key, {})
            cells[column.name] = _finite(record.get("value"))
            cells[column.name + STDERR] = _finite(record.get("stderr"))
        return cells


def _named(row: Mapping[str, float]) -> Iterator[tuple[str, float | None]]:
    """Scores on samples, without the learning rate and the like."""
    for name, value in row.items():
        if name.startswith(_SCORES):
            yield name, _finite(value)


def _is_share(name: str, headline: Metric) -> bool:
    shares = (headline.name, headline.opposite) if headline.share else ()
    return name.removeprefix("clean_").removeprefix("random_") in shares


def _whole(epoch: float) -> int:
    return int(epoch)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
