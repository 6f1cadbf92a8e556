"""Trials of studies against itertools, ids that stay, and refusals before any work."""

import itertools
import random

import pytest

from steppe.errors import SettingError, UnknownNameError
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.analysis import Analysis
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import run_id
from steppe_lab.studies import packing
from steppe_lab.studies.expansion import factors_of, levels_of, plan_of_study
from steppe_lab.studies.extending import extended
from steppe_lab.studies.opening import regrouped
from steppe_lab.studies.packing import bundles_of, read_pack
from steppe_lab.studies.selecting import selected
from steppe_lab.studies.settings import StudySettings

BASE = {"data": "digits", "model": "mlp", "optimizer": "sgd", "epochs": 1}


def study(**more):
    return StudySettings.model_validate({"name": "s", "base": BASE, **more})


def ids(settings):
    return set(plan_of_study(settings))


def by_hand(seed, **fields):
    """The id of a run of `steppe train`."""
    settings = TrainSettings(**{**BASE, **fields})
    return run_id(config_of(recipe_of(settings, settings.optimizer, seed)))


GRID = {
    "base.lr": [0.1, 0.01],
    "batch_size": [16, 32, 64],
    "model.hidden": [8, 16],
}


def test_trials_are_the_product_that_itertools_gives():
    settings = study(
        grid=GRID,
        zip=[{"epochs": [1, 2], "base.momentum": [0.0, 0.9]}],
        where=["batch_size * lr <= 3.2", "not (hidden == 16 and seed == 1)"],
        seeds=[0, 1, 7],
    )
    expected = [
        by_hand(
            seed,
            base=f"sgd:lr={lr},momentum={momentum}",
            optimizer="sgd",
            batch_size=batch,
            model=f"mlp:hidden={hidden}",
            epochs=epochs,
        )
        for seed in (0, 1, 7)
        for lr, batch, hidden in itertools.product(*GRID.values())
        for epochs, momentum in ((1, 0.0), (2, 0.9))
        if batch * lr <= 3.2 and not (hidden == 16 and seed == 1)
    ]
    plan = plan_of_study(settings)
    assert list(plan) == expected
    first = next(iter(plan.values()))
    assert first.name == ("lr=0.1 momentum=0.0 batch_size=16 epochs=1 hidden=8, seed 0")
    assert first.factors == {
        "lr": 0.1,
        "momentum": 0.0,
        "batch_size": 16,
        "epochs_set": 1,
        "hidden": 8,
    }
    assert levels_of(settings)["batch_size"] == [16, 32, 64]


def test_ids_do_not_depend_on_the_order_of_keys_or_on_the_rest_of_the_study():
    settings = study(grid=GRID, seeds=2, measures=["trace"])
    plan, draw = list(plan_of_study(settings)), random.Random(0)
    for _ in range(3):
        keys = list(GRID)
        draw.shuffle(keys)
        base = dict(draw.sample(list(BASE.items()), len(BASE)))
        other = study(grid={key: GRID[key] for key in keys}, base=base, seeds=2)
        assert list(plan_of_study(other)) == plan
    more = extended(
        settings,
        seeds=3,
        levels=["lr=0.3,1e-3", "hidden=4"],
        measures=["sam_sharpness"],
    )
    assert more.grid["base.lr"] == (0.1, 0.01, 0.3, 0.001)
    assert set(plan) < ids(more)
    assert len(ids(more)) == 4 * 3 * 3 * 3
    smaller = study(grid={**GRID, "batch_size": [64]}, seeds=[1])
    assert ids(smaller) < set(plan)


def test_an_analysis_stays_when_measures_are_added():
    settings = study(grid=GRID, measures=["trace", "lpf:sigma=0.05"])
    more = extended(settings, measures=["gradient_norm", "trace"])
    assert more.measures == (("trace", "lpf:sigma=0.05"), ("gradient_norm",))
    plan, longer = plan_of_study(settings), plan_of_study(more)
    for run, trial in plan.items():
        before, after = plan.followers(run), longer.followers(run)
        assert before == {"analysis": after["analysis"]}
        added = after["analysis 2"]
        assert [each["name"] for each in added["measures"]] == ["gradient_norm"]
        own = Analysis(
            training=run,
            measures=("trace", "lpf:sigma=0.05"),
            line_points=0,
            seed=trial.recipe.seed,
        )
        assert before["analysis"] == config_of(own)
    # A file that lists all of them means the same study.
    flat = study(grid=GRID, measures=["gradient_norm", "lpf:sigma=0.05", "trace"])
    assert regrouped(flat, more) == more
    without = study(grid=GRID, measures=["gradient_norm", "trace"])
    assert regrouped(without, more).measures == (("gradient_norm",), ("trace",))


def test_dotted_names_set_what_a_trial_has_and_null_leaves_it():
    settings = study(
        grid={
            "optimizer": ["sgd", "sam:rho=0.1", "adam"],
            "optimizer.rho": [None, 0.5],
            "base.lr": [0.25],
        },
        where="optimizer == 'sam:rho=0.1' or rho is null",
    )
    trials = list(plan_of_study(settings).values())
    said = {
        (
            str(trial.recipe.optimizer and trial.recipe.optimizer.settings["rho"]),
            trial.recipe.base.name,
            trial.recipe.base.settings["lr"],
        )
        for trial in trials
    }
    assert said == {
        ("None", "sgd", 0.25),
        ("None", "adam", 0.25),
        ("0.1", "sgd", 0.25),
        ("0.5", "sgd", 0.25),
    }
    assert trials[0].name == "lr=0.25 sgd rho=null, seed 0"


def test_other_fields_are_those_of_steppe_train():
    settings = study(
        base={**BASE, "optimizer": None, "base": "adam:lr=0.01", "average": "ema"},
        grid={
            "average.decay": [0.5],
            "augment": ["", "basic"],
            "clip_norm": [None, 1.0],
        },
        where="augment == '' or clip_norm is null",
    )
    recipes = [trial.recipe for trial in plan_of_study(settings).values()]
    assert len(recipes) == 3
    assert {each.base.name for each in recipes} == {"adam"}
    assert {each.average.settings["decay"] for each in recipes} == {0.5}
    assert {len(each.augment) for each in recipes} == {0, 1}


def test_factors_have_their_last_words_where_no_other_column_has_them():
    grid = {"model.width": [1], "base.lr": [1], "optimizer.lr": [1], "epochs": [1, 2]}
    assert factors_of(study(grid=grid)) == {
        "base.lr": "base.lr",
        "epochs": "epochs_set",
        "model.width": "width",
        "optimizer.lr": "optimizer.lr",
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"grid": {"epoch": [1]}}, "did you mean 'epochs'"),
        ({"base": {"batchsize": 1}}, "did you mean 'batch_size'"),
        ({"base": {"loss": "mine:loss"}}, "loss of the task"),
        ({"base": {"epochs": "two"}}, "epochs must be a whole number, got .two"),
        ({"grid": {"modle.width": [1]}}, "modle.width is no setting"),
        ({"grid": {"model.a.b": [1]}}, "model.a.b is no setting"),
        ({"grid": {"model.widht": [4]}}, "trial widht=4, seed 0: .*widht"),
        ({"grid": {"base.lr": ["fast"]}}, "trial lr=fast, .* lr must be a number"),
        ({"grid": {"optimizer.rho": [0.1]}}, "optimizer.rho is 0.1.* no optimizer"),
        ({"grid": {"epochs": [0]}}, "trial epochs=0, .*epochs must be greater"),
        ({"grid": {"seed": [0]}}, "seed is no factor"),
        ({"where": "width > 2"}, "'width'"),
        ({"where": "seed > 2"}, "none for seed > 2"),
        ({"zip": {"base.lr": [0.1, 0.1]}}, "have the same settings"),
        ({"grid": {"base.lr": list(range(1, 1002))}, "seeds": 1000}, "1,001,000"),
        ({"measures": ["tarce"]}, "did you mean 'trace'"),
        ({"measures": ["lpf:sigma=-1"]}, "sigma"),
        ({"base": {"start_from": "run@last"}}, "start_from"),
    ],
)
def test_mistakes_are_refused_before_any_work(more, said):
    with pytest.raises((SettingError, UnknownNameError), match=said):
        plan_of_study(study(**more))


def test_some_trials_and_then_the_others_are_all_of_them():
    settings = study(grid=GRID, seeds=2)
    plan = plan_of_study(settings)
    some = selected(plan, settings, ["lr=1e-2", "hidden=8", "hidden=16", "seed=1"])
    assert {t.recipe.base.settings["lr"] for t in some.values()} == {0.01}
    assert (len(some), len(plan)) == (6, 24)
    first = selected(plan, settings, limit=5)
    assert list(first) == list(plan)[:5]
    assert list(selected(plan, settings, limit=99)) == list(plan)
    assert list(first.followers(next(iter(first)))) == []
    for only, said in (
        (["lr=3"], "levels are 0.1, 0.01"),
        (["lr"], "FACTOR=LEVEL"),
        (["lrr=1"], "did you mean 'lr'"),
    ):
        with pytest.raises((SettingError, UnknownNameError), match=said):
            selected(plan, settings, only)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "--seeds, --levels"),
        ({"seeds": 2}, "more than the 2"),
        ({"epochs": 1}, "more than the 1"),
        ({"levels": ["lr"]}, "FACTOR=LEVEL,LEVEL"),
        ({"levels": ["lrr=1"]}, "did you mean 'lr'"),
        ({"levels": ["momentum=0.5"]}, "varies together"),
    ],
)
def test_an_extension_that_is_none_is_refused(more, said):
    settings = study(
        grid=GRID, zip={"base.momentum": [0, 0.9], "l2": [0, 1e-3]}, seeds=2
    )
    with pytest.raises(Exception, match=said):
        extended(settings, **more)


def test_levels_are_read_as_a_file_reads_them():
    settings = study(grid={"optimizer": ["sgd"], "model.skip": [True], "base.lr": [1]})
    more = extended(
        settings, levels=["optimizer=sam:rho=0.1,rng=fresh", "skip=false", "lr=1e-3,.5"]
    )
    assert more.grid["optimizer"] == ("sgd", "sam:rho=0.1,rng=fresh")
    assert more.grid["model.skip"] == (True, False)
    assert more.grid["base.lr"] == (1, 0.001, 0.5)


def test_packs_keep_all_workers_busy(monkeypatch):
    monkeypatch.setattr(packing, "is_faster", lambda _: True)
    plan = plan_of_study(study(grid={"base.lr": [0.1, 0.2, 0.3]}, seeds=3))
    runs = [*list(plan)[:7], "analysis of one"]

    def sizes(most, workers):
        groups = list(bundles_of(plan, most, workers).cut(runs))
        assert sorted(run for group in groups for run in group) == sorted(runs)
        return sorted(map(len, groups))

    assert sizes(0, workers=2) == [1, 3, 4]
    assert sizes(0, workers=100) == [1] * 8
    assert sizes(3, workers=2) == [1, 2, 2, 3]
    assert [read_pack(text) for text in ("auto", "off", "3")] == [0, None, 3]
    for text in ("1", "-2", "on", ""):
        with pytest.raises(SettingError, match="--pack takes auto, off"):
            read_pack(text)
