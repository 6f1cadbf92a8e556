"""Learning rate schedules of trainings, as texts."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

import own_files
from steppe.errors import SettingError, TrustError, UnknownNameError
from steppe.registry.registry import reading
from steppe_lab.store.store import run_id
from steppe_lab.training.build import build_lr_schedule, build_optimizer
from steppe_lab.training.lr_schedules import read_lr_schedule
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_settings
from steppe_lab.training.recipe import Recipe


def recipe(schedule: str, optimizer: str = "sgd:lr=0.05", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=8",
        "train_samples": 100,
        "epochs": 8,
        "batch_size": 10,
        "lr_schedule": schedule,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    return Recipe.model_validate(settings)


# Written down while the names were read by the recipe itself: stored runs have them.
IDS = {
    ("cosine", 0.0): "82bec359afb954c5",
    ("cosine", 2.5): "d7844028a72ef4ad",
    ("constant", 0.0): "bf007fc36a7feb43",
    ("constant", 2.5): "b4cf8f53e9d08b58",
    ("step", 0.0): "988f8eb07dda6704",
    ("step", 2.5): "676e0115cdbf2968",
}


@pytest.mark.parametrize(("schedule", "warmup"), IDS)
def test_a_recipe_keeps_the_id_that_it_had(schedule, warmup):
    made = recipe(schedule, "sam:rho=linear(0.1,0.2)", warmup_epochs=warmup)
    assert run_id(json.loads(made.model_dump_json())) == IDS[schedule, warmup]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("multi_step(milestones=(2,3),factor=0.5)", [0.05, 0.05, 0.025, 0.0125]),
        ("linear(end=0.01,steps=4)", [0.05, 0.05 - 0.04 * 1.9 / 4, 0.03, 0.02]),
        ("step(shares=(0.25,),factor=0.5)", [0.05, 0.05, 0.025, 0.025]),
        ("piecewise(boundaries=(2,3),values=(0.2,0.1,0.3))", [0.2, 0.2, 0.1, 0.3]),
        ("divide_every_k(k=2)", [0.05, 0.05, 0.025, 0.025]),
        ("step(shares=(0.25,0.375),factor=0.2)", [0.05, 0.05, 0.01, 0.002]),
        ("linear", [0.05, 0.05 * (1 - 1.9 / 8), 0.0375, 0.05 * 5 / 8]),
    ],
)
def test_times_of_a_schedule_are_epochs(text, expected):
    rate = build_lr_schedule(recipe(text), 100)
    assert [rate(t) for t in (0, 19, 20, 30)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("text", ["constant", "scoping(rate=0.1)", "step", "linear"])
def test_every_schedule_begins_with_the_warm_up_of_the_recipe(text):
    rate = build_lr_schedule(recipe(text, warmup_epochs=1), 100)
    rise = [0.05 * (t + 1) / 11 for t in range(10)]
    expected = {"scoping(rate=0.1)": 0.05 * 1.1**10}.get(text, 0.05)
    growth = expected / 0.05  # Warmup rises to the value at its end
    assert [rate(t) for t in range(10)] == pytest.approx([r * growth for r in rise])
    assert rate(10) == pytest.approx(expected)


def test_one_schedule_has_one_text():
    texts = [
        "multi_step( milestones=(2, 3) )",
        "multi_step(factor=0.1,milestones=(2,3))",
    ]
    assert {read_lr_schedule(t) for t in texts} == {"multi_step(milestones=(2, 3))"}
    assert read_lr_schedule("cosine()") == "cosine"


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("Cosine", UnknownNameError, "unknown lr schedule 'Cosine': did you mean 'cos"),
        ("proportional(0.1,0,1)", UnknownNameError, "unknown lr schedule 'proportion"),
        ("cosine(0.1)", SettingError, "start of cosine is the lr of the base"),
        ("constant(value=0.1)", SettingError, "value of constant is the lr of the ba"),
        ("linear(warmup=2)", SettingError, "warmup of linear is warmup_epochs"),
        ("linear(ends=0)", UnknownNameError, "did you mean 'end'"),
        ("multi_step(milestones=3)", SettingError, "milestones of multi_step must be"),
        ("multi_step", SettingError, "multi_step needs milestones"),
        ("piecewise((1,2),(0.1,0.2))", SettingError, "values must be one more than b"),
        ("rates.nowhere:rate", UnknownNameError, "schedule 'rates.nowhere:rate' cann"),
    ],
)
def test_a_bad_text_is_one_sentence(text, error, said):
    with pytest.raises(error) as caught:
        read_lr_schedule(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("multi_step(milestones=(3,2))", "milestones must ascend, got (3, 2)"),
        ("poly(order=1)", "order must be <= 0, got 1.0"),
        ("linear(end=-0.01)", "the learning rate must be >= 0, got -0.0"),
        ("multi_step(milestones=(2,),factor=-1)", ">= 0, got -0.05 with"),
        ("piecewise((1,),(0.1,-0.2))", "the learning rate must be >= 0, got -0.2"),
        ("divide_every_k(k=0)", "k must be >= 1, got 0"),
    ],
)
def test_a_value_out_of_range_shows_before_any_work(text, said):
    with pytest.raises(SettingError) as caught:
        check_settings(recipe(text), 100)
    assert said in str(caught.value)


@pytest.mark.parametrize("length", [{"epochs": 4}, {"epochs": 30, "steps": 40}])
def test_a_warm_up_that_the_training_cuts_short_is_refused(length):
    made = recipe("cosine", warmup_epochs=4, batch_size=10, **length)
    check_settings(made, 100)  # all of the training
    check_settings(made.model_copy(update={"warmup_epochs": 50}))  # of unknown length
    with pytest.raises(SettingError, match="the training of 40 steps, got 5 epochs;"):
        check_settings(made.model_copy(update={"warmup_epochs": 5}), 100)


RATES = """
def by_step(step):
    return {0: 0.3, 1: 0.1}.get(step, 0.2)


def negative(step):
    return 1.0 - step


def text(step):
    return "much"


def none():
    return 0.1
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    with own_files.package(tmp_path, monkeypatch, "rates", mine=RATES) as folder:
        yield folder


def test_a_function_of_the_user_gives_the_rate_of_each_step(own):
    made = recipe("rates.mine:by_step")
    rate = build_lr_schedule(made, 100)
    assert [rate(t) for t in range(4)] == [0.3, 0.1, 0.2, 0.2]
    warm = build_lr_schedule(recipe("rates.mine:by_step", warmup_epochs=1), 100)
    assert [warm(0), warm(10)] == pytest.approx([0.2 / 11, 0.2])
    assert Recipe.model_validate_json(made.model_dump_json()) == made


def test_a_function_of_the_user_is_known_by_its_source_and_needs_trust(own):
    record = json.loads(recipe("rates.mine:by_step").model_dump_json())
    assert len(record["code"]["rates.mine:by_step"]) == 64
    with (
        reading("a file", ()),
        pytest.raises(TrustError, match=r"--trust rates\.mine:"),
    ):
        Recipe.model_validate(record)
    record["code"]["rates.mine:by_step"] = "0" * 64
    with pytest.raises(ValidationError, match=r"source of rates\.mine:by_step"):
        Recipe.model_validate(record)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("negative", "must be >= 0 and finite, got -78 at step 79 from rates.mine:neg"),
        ("text", "rates.mine:text failed at step 0 (ValueError: could not convert"),
        ("none", "rates.mine:none failed at step 0 (TypeError"),
    ],
)
def test_a_function_that_gives_no_rate_is_refused_before_any_work(own, name, said):
    with pytest.raises(SettingError) as caught:
        check_settings(recipe(f"rates.mine:{name}"), 100)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_radius_that_follows_the_rate_is_largest_at_the_highest_one():
    schedule = "piecewise(boundaries=(1,),values=(0.4,0.1))"
    made = recipe(schedule, "sam:rho=proportional(0.6,0.2)")
    optimizer = build_optimizer(made, torch.nn.Linear(1, 1), 100)
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.2 + 0.4 * 0.05 / 0.4)
