"""A study: the runs of a plan in a store, worked on until each has ended.

What is done depends on the plan and the store alone: a study that was stopped, or that
several processes work on, goes on where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from steppe_lab.datasets.loading import load_split
from steppe_lab.datasets.split import Split
from steppe_lab.execution.abstract import Execute
from steppe_lab.progress import Report, silent
from steppe_lab.runs import WORK
from steppe_lab.runs.attacking import Attacking, attacked_by
from steppe_lab.runs.training import fingerprint_of, is_whole, reopen_if_damaged
from steppe_lab.store.store import Store, run_id
from steppe_lab.studies.costs import forwards
from steppe_lab.studies.plan import Plan, Trial, data_of
from steppe_lab.studies.progress import Piece, Watch
from steppe_lab.training.build import build_model
from steppe_lab.training.readiness import check_ready, check_same_data, check_settings
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.starts import parent_of, stored_start


@dataclass(frozen=True)
class _Samples:
    """Facts of the samples of a split, without the samples."""

    fingerprint: str
    sizes: tuple[int, int]  # training and test


class Study:
    """The runs of a plan in a store.

    Args:
        plan: trials, and the runs that follow each training.
        store: where finished runs are kept and looked for.
        start_named: the file to start from as the user wrote it, for messages, where
            recipes name it by its contents.
    """

    def __init__(self, plan: Plan, store: Store, *, start_named: str = "") -> None:
        self.plan = plan
        self.store = store
        self._start_named = start_named
        self._follow = {run: plan.followers(run) for run in plan}
        self._ids = {
            run: {name: run_id(config) for name, config in configs.items()}
            for run, configs in self._follow.items()
        }

    def followers(self, run: str) -> dict[str, str]:
        """Ids of the runs that follow a training, by the plan's word for each."""
        return dict(self._ids[run])

    @property
    def left(self) -> int:
        """Runs of all kinds that are not finished."""
        trained = [run for run in self.plan if is_whole(self.store, run)]
        runs = [each for run in self.plan for each in self.followers(run).values()]
        done = len(trained) + sum(map(self.store.is_finished, runs))
        return len(self.plan) + len(runs) - done

    def why_not(self, run: str) -> str:
        """The reason for which a run has no result."""
        failure = self.store.failure(run)
        return failure.reason if failure else "not finished"

    def parent(self, run: str) -> str:
        """The run that a training goes on from; "" where its weights are new."""
        return parent_of(self.store.root, self.plan[run].recipe.start_from)

    def work(
        self,
        execute: Execute,
        *,
        begin: Callable[[], object] | None = None,
        workers: int = 1,
        progress: Report | None = None,
    ) -> None:
        """Do the runs that are left.

        Args:
            execute: the executor; results do not depend on it, but for the rounding of
                networks that it trains together.
            begin: called when all checks have passed, before any work.
            workers: runs that go on at the same time, for the estimate of the end.
            progress: called with each event.

        Raises:
            DataError: data that is missing, damaged or not what finished networks were
                trained on; nothing has been done then.
            SettingError: settings that the data or the model refuses, likewise.
        """
        samples = self._checked() if self.left else self._read_again()
        # Those that lost a file count too: analyses of them are kept.
        for run in filter(self.store.is_finished, self.plan):
            self._check_data(run, samples)
        if begin is not None:
            begin()
        self.store.add_all([trial.config for trial in self.plan.values()])
        for run in self.plan:
            reopen_if_damaged(self.store, run)
        watch = self._watch(progress or silent, workers, samples)
        execute(
            self.store,
            self.plan,
            WORK,
            progress=watch,
            trust=self.plan.code,
            then=partial(self._then, watch, samples),
        )

    def _then(
        self,
        watch: Watch,
        samples: Mapping[str, _Samples],
        run: str,
        finished: bool,
    ) -> Iterable[str]:
        """Runs that follow a training that has ended."""
        configs = self._follow.get(run, {})
        if not finished:
            for config in configs.values():
                watch.skip(run_id(config))
            return []
        if configs:
            self._check_data(run, samples)
        return [self.store.add(config) for config in configs.values()]

    def _checked(self) -> dict[str, _Samples]:
        """Try every setting before any work, and every network on its data once."""
        samples: dict[str, _Samples] = {}
        tried: dict[tuple[str, str], nn.Module] = {}
        for trial in self.plan.values():
            check_settings(trial.recipe)
        for trial in self._unlike():
            recipe, data = trial.recipe, data_of(trial.recipe)
            start = stored_start(recipe, self.store.root, self._start_named)
            if data not in samples:
                split = check_ready(recipe, start)
                sizes = len(split.train), len(split.test)
                samples[data] = _Samples(split.fingerprint, sizes)
                shapes = split.in_shape, split.outputs
            model = tried.get((data, str(recipe.model)))
            if model is None:
                model = build_model(recipe, *shapes)
                tried[data, str(recipe.model)] = model
                self._check_attacks(trial, model, split)
            check_settings(recipe, samples[data].sizes[0], model, start)
        return samples

    def _check_attacks(self, trial: Trial, model: nn.Module, split: Split) -> None:
        """Refuse attacks on data that have none, or with budgets beyond the bounds."""
        for config in self._follow[trial.run].values():
            if config["kind"] == "attack":
                settings = {k: v for k, v in config.items() if k != "kind"}
                record = Attacking.model_validate(settings)
                attacked_by(record, model, trial.recipe, split)

    def _unlike(self) -> list[Trial]:
        """Trials that differ in more than the seed, with the same data in a row."""
        unlike = {_but_seed(trial.recipe): trial for trial in self.plan.values()}
        return sorted(unlike.values(), key=lambda trial: data_of(trial.recipe))

    def _read_again(self) -> dict[str, _Samples]:
        """Samples of files, which can be other samples than those of finished runs."""
        samples: dict[str, _Samples] = {}
        for trial in self.plan.values():
            data = data_of(trial.recipe)
            if trial.recipe.reads_files and data not in samples:
                split = load_split(trial.recipe)
                sizes = len(split.train), len(split.test)
                samples[data] = _Samples(split.fingerprint, sizes)
        return samples

    def _check_data(self, run: str, samples: Mapping[str, _Samples]) -> None:
        """Compare the samples at hand with those of a network that is trained."""
        recipe = self.plan[run].recipe
        at_hand = samples.get(data_of(recipe))
        if at_hand is not None:
            before = [fingerprint_of(self.store, run)]
            check_same_data(at_hand.fingerprint, before, data=recipe.data.name)

    def _watch(
        self, tell: Report, workers: int, samples: Mapping[str, _Samples]
    ) -> Watch:
        """All runs with their names and costs."""
        watch = Watch(tell, workers)
        for run, trial in self.plan.items():
            at_hand = samples.get(data_of(trial.recipe))
            # Without work no samples were counted, and no time is estimated.
            cost = forwards(trial.recipe, *at_hand.sizes) if at_hand else 1.0
            watch.pieces[run] = Piece(trial.name, "training", cost)
            for name, follower in self.followers(run).items():
                # Networks of one study are analysed alike.
                watch.pieces[follower] = Piece(f"{trial.name}, {name}", name, 1.0)
        return watch


def _but_seed(recipe: Recipe) -> str:
    return recipe.model_copy(update={"seed": 0}).model_dump_json()
