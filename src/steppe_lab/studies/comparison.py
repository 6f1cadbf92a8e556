"""The main job: do these optimizers find flatter minima here, and does it pay?

Every optimizer is trained from the same initial weights on the same samples, once per
seed, then every network is analysed with the same measures.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import ValidationError

from steppe.errors import SettingError, StoreError, TrustError, UnknownNameError
from steppe.registry.registry import reading, unknown_name
from steppe_lab.analysis.starts import with_start
from steppe_lab.datasets.loading import load_split
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Report, silent
from steppe_lab.runs import WORK
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.analysis import Analysis
from steppe_lab.runs.provenance import origins
from steppe_lab.runs.scoring import Scoring
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import fingerprint_of, is_whole, recipe_of
from steppe_lab.store.json_files import read_record, write_record
from steppe_lab.store.store import Store, run_id
from steppe_lab.studies.costs import forwards
from steppe_lab.studies.progress import Piece, Watch
from steppe_lab.studies.rows import FACTS, Comparison, result_with, row_of
from steppe_lab.tasks import stored_headline
from steppe_lab.training.build import build_model
from steppe_lab.training.checkpoints import reason_of
from steppe_lab.training.readiness import check_ready, check_same_data, check_settings
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.starts import stored_start

_STUDIES = "studies"  # folder of the settings of comparisons


def analysis_of(settings: CompareSettings, training: str, recipe: Recipe) -> Analysis:
    """The analysis of one network.

    Its draws follow from the seed of the training: they are the same for the
    optimizers that are compared and independent over the seeds.
    """
    return Analysis.model_validate(
        {
            "training": training,
            "seed": recipe.seed,
            "code": recipe.code,
            "measures": settings.measures,
            "samples": settings.measure_samples,
            "line_points": settings.line_points,
            "line_radius": settings.line_radius,
        }
    )


class Study:
    """The runs of a comparison in a store.

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
        self._start_named = start_named or settings.start_from
        self.settings = settings = with_start(settings, store)
        self.store = store
        planned = [
            (optimizer, seed, recipe_of(settings, optimizer, seed))
            for seed in range(settings.seeds)
            for optimizer in settings.optimizers
        ]
        self._code = set(analysis_of(settings, "", planned[0][2]).code)
        self._recipes: dict[str, Recipe] = {}
        self.trainings: dict[str, tuple[str, int]] = {}
        for optimizer, seed, recipe in planned:
            run = run_id(config_of(recipe))
            if run in self.trainings:
                raise SettingError(
                    f"optimizers must differ, but '{self.trainings[run][0]}' and "
                    f"'{optimizer}' have the same settings; leave one of them out."
                )
            self._recipes[run] = recipe
            self._code |= recipe.code.keys()
            self.trainings[run] = (optimizer, seed)

    def recipe(self, run: str) -> Recipe:
        """How a network of the study is trained."""
        return self._recipes[run]

    @property
    def left(self) -> int:
        """Runs of all kinds that are not finished."""
        trained = [run for run in self.trainings if is_whole(self.store, run)]
        followed = [self._followers(run) for run in self.trainings]
        runs = [run_id(config) for each in followed for config in each.values()]
        done = len(trained) + sum(map(self.store.is_finished, runs))
        return len(self.trainings) + len(runs) - done

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
        recipe = next(iter(self._recipes.values()))
        present, sizes = None, None
        if self.left:
            for each in self._recipes.values():
                check_settings(each)
            start = stored_start(recipe, self.store.root, self._start_named)
            split = check_ready(recipe, start)
            present = split.fingerprint
            sizes = len(split.train), len(split.test)
            for each in self._recipes.values():
                if each.seed == recipe.seed:
                    model = build_model(each, split.in_shape, split.outputs)
                    check_settings(each, len(split.train), model, start)
        elif recipe.reads_files:
            present = load_split(recipe).fingerprint
        self._check_data(present)
        self._begin()
        followers = {run: self._followers(run) for run in self.trainings}
        watch = self._watch(progress or silent, workers, sizes)

        def then(run: str, finished: bool) -> list[str]:
            """Analyses of a network that is trained."""
            configs = followers.get(run, {})
            if not finished:
                for config in configs.values():
                    watch.skip(run_id(config))
                return []
            if configs and present is not None:
                self._check_data_of([run], present)
            return [self.store.add(config) for config in configs.values()]

        run_local(
            self.store,
            self.trainings,
            WORK,
            workers=workers,
            devices=devices,
            progress=watch,
            trust=self._code,
            then=then,
        )
        return self.collect()

    def _watch(
        self, tell: Report, workers: int, sizes: tuple[int, int] | None
    ) -> Watch:
        """All runs with their names and costs."""
        watch = Watch(tell, workers)
        for run, (optimizer, seed) in self.trainings.items():
            name = f"{optimizer}, seed {seed}"
            # Without work no samples were counted, and no time is estimated.
            cost = forwards(self._recipes[run], *sizes) if sizes else 1.0
            watch.pieces[run] = Piece(name, "training", cost)
            for kind, config in self._followers(run).items():
                # Networks of one study are analysed alike.
                watch.pieces[run_id(config)] = Piece(f"{name}, {kind}", kind, 1.0)
        return watch

    def collect(self) -> Comparison:
        """Join the stored results into rows; runs without one are failures.

        Raises:
            StoreError: a result is damaged.
        """
        rows, failures, facts = [], [], {}
        tested: dict[str, float] = {}
        for run, (optimizer, seed) in self.trainings.items():
            analysis = self._analysis(run)
            if not is_whole(self.store, run):
                failures.append(f"{optimizer}, seed {seed}: {self._why_not(run)}")
                continue
            if not self.store.is_finished(analysis):
                why = self._why_not(analysis)
                failures.append(f"{optimizer}, seed {seed}, analysis: {why}")
                continue
            try:
                rows.append(row_of(self.store, optimizer, seed, run, analysis))
            except (ValidationError, AttributeError, KeyError, TypeError) as error:
                why = "values of another kind"
                raise self.store.damaged(run, "result.json", why) from error
            result = self.store.result(run)
            facts = {name: result[name] for name in FACTS} | {
                "headline": rows[-1].headline
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
        run = run_id(self._followers(training)["scoring"])
        if not self.store.is_finished(run):
            return {}
        name = stored_headline(self.store.result(training)).name
        return {training: result_with(self.store, run, (name,))[name]}

    def _why_not(self, run: str) -> str:
        failure = self.store.failure(run)
        return failure.reason if failure else "not finished"

    def _check_data(self, present: str | None) -> None:
        """Compare a fingerprint with those of the networks that are there."""
        if present is not None:
            # Those that lost a file count too: analyses of them are kept.
            done = [run for run in self.trainings if self.store.is_finished(run)]
            self._check_data_of(done, present)

    def _check_data_of(self, runs: Collection[str], present: str) -> None:
        before = [fingerprint_of(self.store, run) for run in runs]
        check_same_data(present, before, data=self.settings.data)

    def _begin(self) -> None:
        settings = self.settings
        record = settings.model_dump(mode="json")
        write_record(self.store.root / _STUDIES / f"{settings.name}.json", record)
        for recipe in self._recipes.values():
            run = self.store.add(config_of(recipe))
            if not is_whole(self.store, run):
                self.store.reopen(run)

    def _analysis(self, training: str) -> str:
        return run_id(self._followers(training)["analysis"])

    def _followers(self, training: str) -> dict[str, dict[str, Any]]:
        """Runs that follow a training, by kind."""
        recipe = self._recipes[training]
        analysis = analysis_of(self.settings, training, recipe)
        configs = {"analysis": config_of(analysis)}
        if self.settings.sweep:
            scoring = Scoring(training=training, code=recipe.code)
            configs["scoring"] = config_of(scoring)
        return configs


def stored_study(
    store: Store, name: str | None = None, *, trust: Collection[str] = ()
) -> Study:
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
            return Study(CompareSettings.model_validate(record), store)
    except TrustError as error:
        raise StoreError(str(error)) from None
    except (ValidationError, SettingError, UnknownNameError) as error:
        why = reason_of(error)
        raise StoreError(f"{newest} cannot be used ({why}); {fix}.") from error
