"""Whether trainings of a study are packed: a pilot of a few steps."""

from __future__ import annotations

from typing import Any

import pytest

from steppe_lab.studies import packing
from steppe_lab.studies.packing import bundles_of, is_faster
from steppe_lab.studies.plan import Trial
from steppe_lab.training.packed.pilot import Speeds, timed
from steppe_lab.training.recipe import Recipe
from tests.support import small_trainings

KNOWN = {"data": "digits", "model": "mlp:hidden=4", "base": "sgd"}


def plan_of(*changes: dict[str, Any]) -> dict[str, Trial]:
    recipes = [Recipe.model_validate({**KNOWN, **change}) for change in changes]
    trials = [Trial(str(n), recipe, {}) for n, recipe in enumerate(recipes)]
    return {trial.run: trial for trial in trials}


def names(plan: dict[str, Trial], bundles: Any) -> list[list[str]]:
    return [[plan[run].name for run in part] for part in bundles.cut(list(plan))]


SEEDS = [{"seed": seed} for seed in range(5)]


def test_auto_packs_where_a_pilot_says_that_it_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    gains = iter((1.0, 3.0))

    def pilot(recipes: Any, split: Any) -> Speeds:
        calls.append(len(recipes))
        return Speeds(alone=next(gains), packed=1.0, members=len(recipes))

    monkeypatch.setattr(packing, "timed", pilot)
    monkeypatch.setattr(packing, "FEW", 0)
    plan = plan_of(*SEEDS[:2], *({**seed, "epochs": 2} for seed in SEEDS[:3]))
    bundles = bundles_of(plan, 0, workers=1)
    for _ in range(2):  # each structure is timed once
        assert names(plan, bundles) == [["0"], ["1"], ["2", "3", "4"]]
    assert calls == [2, 3]


def test_short_trainings_are_not_timed() -> None:
    plan = plan_of(*({**seed, "epochs": 1} for seed in SEEDS[:2]))
    assert not is_faster([trial.recipe for trial in plan.values()])


def test_a_pilot_times_a_few_steps() -> None:
    plan = plan_of(*({**s, "train_samples": 40, "batch_size": 8} for s in SEEDS))
    recipes = [trial.recipe for trial in plan.values()]
    speeds = timed(recipes, small_trainings.split())
    assert speeds.members == 5
    assert speeds.gain == pytest.approx(speeds.alone / speeds.packed)
    assert 0 < speeds.packed < 1
