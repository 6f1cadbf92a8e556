"""The main job: do these optimizers find flatter minima here, and does it pay?

Every optimizer is trained from the same initial weights on the same samples, once per
seed, then every network is analysed with the same measures.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

from pydantic import BaseModel, ValidationError

from steppe.errors import SettingError, StoreError, TrustError, UnknownNameError
from steppe.registry.registry import reading, unknown_name
from steppe_lab.analysis.starts import with_start
from steppe_lab.complaints import reason_of
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Report
from steppe_lab.runs.provenance import origins
from steppe_lab.runs.scoring import Scoring
from steppe_lab.runs.settings import CompareSettings, TrainingSettings
from steppe_lab.runs.training import is_whole
from steppe_lab.store.json_files import read_record, write_record
from steppe_lab.store.store import Store
from steppe_lab.studies.expansion import ANALYSIS, Followers, plan_of_study
from steppe_lab.studies.plan import Plan, Trial
from steppe_lab.studies.rows import FACTS, Comparison, result_with, row_of
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.study import Study
from steppe_lab.tasks import stored_corpus_metrics, stored_headline

_STUDIES = "studies"  # folder of the settings of comparisons


def as_study(settings: CompareSettings) -> StudySettings:
    """A comparison as a study with one factor, the optimizer."""
    shared = set(TrainingSettings.model_fields)
    return StudySettings.model_validate(
        {
            "name": "comparison",
            "base": settings.model_dump(include=shared),
            "grid": {"optimizer": settings.optimizers},
            "seeds": settings.seeds,
            "measures": [settings.measures],
            "analysis": {
                "samples": settings.measure_samples,
                "line_points": settings.line_points,
                "line_radius": settings.line_radius,
            },
        }
    )


def plan_of(settings: CompareSettings) -> Plan:
    """The trials of a comparison: every optimizer with every seed.

    Each network is analysed, and scored on the test set after a sweep.

    Args:
        settings: all of them; a file to start from is named by its contents.

    Raises:
        SettingError: a setting that has no meaning.
    """
    study = as_study(settings)
    plan, analyses = plan_of_study(study), Followers(study)

    def follow(trial: Trial, /) -> Mapping[str, BaseModel]:
        scoring = Scoring(training=trial.run, code=trial.recipe.code)
        return {**analyses(trial), "scoring": scoring}

    return Plan(list(plan.values()), follow) if settings.sweep else plan


class ComparisonStudy:
    """The study that a comparison is collected from.

    Args:
        settings: all of them; every name is checked here, every range by `run`.
        store: where finished runs are kept and looked for.
        start_named: the file to start from as the user wrote it, for messages, where
            the settings name it by its contents already.

    Raises:
        SettingError: a setting that has no meaning.
        CheckpointError: weights to start from that are missing or none.
    """

    def __init__(
        self, settings: CompareSettings, store: Store, *, start_named: str = ""
    ) -> None:
        named = start_named or settings.start_from
        self.settings = with_start(settings, store)
        self.store = store
        self.study = Study(plan_of(self.settings), store, start_named=named)

    @property
    def plan(self) -> Plan:
        """Its trials."""
        return self.study.plan

    @property
    def left(self) -> int:
        """Runs of all kinds that are not finished."""
        return self.study.left

    def run(
        self,
        *,
        workers: int = 2,
        devices: Sequence[str] = (),
        progress: Report | None = None,
    ) -> Comparison:
        """Do the runs that are left, and collect all.

        Args:
            workers: processes, one thread each; results do not depend on it.
            devices: one for each worker, of one kind; nor on which.
            progress: called with each event.

        Raises:
            DataError: data that is missing, damaged or not what finished networks were
                trained on; nothing has been done then.
            SettingError: settings that the data or the model refuses, likewise.
        """
        self.study.work(
            partial(run_local, workers=workers, devices=devices),
            begin=self._begin,
            workers=workers,
            progress=progress,
        )
        return self.collect()

    def collect(self) -> Comparison:
        """Join the stored results into rows; runs without one are failures.

        Raises:
            StoreError: a result is damaged.
        """
        rows, failures, facts = [], [], {}
        tested: dict[str, float] = {}
        for run, trial in self.plan.items():
            analysis = self.study.followers(run)[ANALYSIS]
            if not is_whole(self.store, run):
                failures.append(f"{trial.name}: {self.study.why_not(run)}")
                continue
            if not self.store.is_finished(analysis):
                why = self.study.why_not(analysis)
                failures.append(f"{trial.name}, {ANALYSIS}: {why}")
                continue
            optimizer, seed = trial.factors["optimizer"], trial.recipe.seed
            try:
                rows.append(row_of(self.store, optimizer, seed, run, analysis))
            except (ValidationError, AttributeError, KeyError, TypeError) as error:
                why = "values of another kind"
                raise self.store.damaged(run, "result.json", why) from error
            result = self.store.result(run)
            facts = {name: result[name] for name in FACTS} | {
                "headline": rows[-1].headline,
                "corpus_metrics": stored_corpus_metrics(result),
            }
            if self.settings.sweep:
                tested |= self._tested(run)
        return Comparison(
            settings=self.settings,
            rows=tuple(rows),
            failures=tuple(failures),
            origins=origins(self.store.folder(row.training) for row in rows),
            tested=tested,
            **facts,
        )

    def _tested(self, training: str) -> dict[str, float]:
        run = self.study.followers(training)["scoring"]
        if not self.store.is_finished(run):
            return {}
        name = stored_headline(self.store.result(training)).name
        return {training: result_with(self.store, run, (name,))[name]}

    def _begin(self) -> None:
        """Write the settings down, which the command can go on from."""
        record = self.settings.model_dump(mode="json")
        path = self.store.root / _STUDIES / f"{self.settings.name}.json"
        write_record(path, record)


def stored_study(
    store: Store, name: str | None = None, *, trust: Collection[str] = ()
) -> ComparisonStudy:
    """A comparison that was begun in a store; its settings are data, not code.

    Args:
        store: where it was begun.
        name: the beginning of its name; None for the newest.
        trust: code of the user, as module:function, that its settings may name.

    Raises:
        UnknownNameError: no such comparison, or several.
        StoreError: none was begun there, its settings are damaged, or they name code
            that is not trusted.
    """
    paths = sorted((store.root / _STUDIES).glob("compare-*.json"))
    matching = [path for path in paths if path.stem.startswith(name or "")]
    if not paths:
        raise StoreError(
            f"{store.root} holds no comparison; name the folder that `steppe compare` "
            "wrote with --out."
        )
    if not matching or (name is not None and len(matching) > 1):
        raise unknown_name("comparison", name or "", [path.stem for path in paths])
    newest = max(matching, key=lambda path: path.stat().st_mtime)
    fix = "restore it, or delete it and run `steppe compare` again"
    try:
        record = read_record(newest, fix)
        with reading(newest, trust):
            return ComparisonStudy(CompareSettings.model_validate(record), store)
    except TrustError as error:
        raise StoreError(str(error)) from None
    except (ValidationError, SettingError, UnknownNameError) as error:
        why = reason_of(error)
        raise StoreError(f"{newest} cannot be used ({why}); {fix}.") from error
