"""Packed training: each member equals the same training alone, to rounding.

The oracle is the loop of a training alone, whose steps and scores are other code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steppe_lab.datasets import Split
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.provenance import FILE, note_start, packed_with
from steppe_lab.store.json_files import read_json
from steppe_lab.store.store import Store, run_id
from steppe_lab.training.build import build_model
from steppe_lab.training.failures import TrainingFailedError
from steppe_lab.training.loop import Trained, train
from steppe_lab.training.packed.grouping import packs, why_alone
from steppe_lab.training.packed.loop import packed_form, train_packed
from steppe_lab.training.packed.memory import BUDGET, bytes_of_member, most_members
from steppe_lab.training.packed.network import (
    CannotPackError,
    FoldedNetwork,
    MappedNetwork,
)
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState
from steppe_lab.work import work, work_together
from tests.support import small_trainings

METHODS = ("", "sam:rho={}", "asam:rho={}", "lpf_sgd:micro_batches=3,gamma={}")
# Settings in which members differ: base, seed, and the number of the method.
MEMBERS = (
    ("sgd:lr=0.05,momentum=0.9,weight_decay=0.001,nesterov=true", 0, 0.05),
    ("sgd:lr=0.02,momentum=0,weight_decay=0", 1, 0.1),
    ("sgd:lr=0.03,momentum=0.5,weight_decay=0.01", 1, 0.02),
)
MODELS = '''
import torch
from torch import nn


class Double(nn.Sequential):
    """Computes in float64, whatever the samples are in."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.double()

    def forward(self, x):
        return super().forward(x.double())


def normed(in_shape, classes):
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh()]
    layers += [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48, 6, bias=False)]
    return Double(*layers, nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, classes))


def plain(in_shape, classes):
    layers = [nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 5)]
    return Double(*layers, nn.LayerNorm(5), nn.Linear(5, classes))


class Scaled(nn.Module):
    """Has a parameter of its own, and centres the rows of a batch."""

    def __init__(self, classes):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(64))
        self.head = nn.Linear(64, classes)

    def forward(self, x):
        x = x.flatten(1) * self.scale
        return self.head((x - x.mean(0)).tanh())


def scaled(in_shape, classes):
    return Double(Scaled(classes))


def random(in_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, classes))


def frozen(in_shape, classes):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    model[1].bias.requires_grad_(False)
    return model
'''


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packed_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)


def recipes(method: str = "", **more: Any) -> list[Recipe]:
    """Three of one structure; 3 steps of 16, 16 and 8 samples in an epoch."""
    known = {"model": "packed_models:normed", "epochs": 5, "warmup_epochs": 1, **more}
    each = []
    for base, seed, number in MEMBERS:
        scale = 0.02 if "lpf" in method else 1.0
        choice = method.format(number * scale) or None
        each.append(
            Recipe.model_validate(
                small_trainings.recipe().model_dump()
                | {"base": base, "seed": seed, "optimizer": choice, **known}
            )
        )
    return each


def packed(
    each: Sequence[Recipe], split: Split, **more: Any
) -> dict[int, Trained | Exception]:
    outcomes: dict[int, Trained | Exception] = {}
    train_packed(each, split, ended=outcomes.__setitem__, **more)
    return outcomes


def distance(one: Any, other: Any) -> float:
    """The largest difference of the weights, buffers and histories of two trainings."""
    assert isinstance(one, Trained)
    assert isinstance(other, Trained)
    states = (one.model.state_dict(), other.model.state_dict())
    apart = max(
        float((states[0][name].double() - states[1][name].double()).abs().max())
        for name in states[0]
    )
    assert [list(row) for row in one.history] == [list(row) for row in other.history]
    rows = zip(one.history, other.history, strict=True)
    return max([apart, *(abs(a[name] - b[name]) for a, b in rows for name in a)])


@pytest.mark.parametrize("model", ["normed", "plain", "scaled"])
@pytest.mark.parametrize("method", METHODS)
def test_a_member_equals_the_training_alone_in_float64(method: str, model: str) -> None:
    each = recipes(method, model=f"packed_models:{model}")
    split = small_trainings.split()
    together = packed(each, split)
    for place, recipe in enumerate(each):
        alone = train(recipe, split)
        assert distance(alone, together[place]) < 1e-10
        outcome = together[place]
        assert isinstance(outcome, Trained)
        assert outcome.gradients == pytest.approx(alone.gradients)
        assert outcome.best_epoch == alone.best_epoch


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_member_equals_the_training_alone_after_100_steps(method: str) -> None:
    each = recipes(method, model="mlp:hidden=6", epochs=34, evaluate_every=17)
    split = small_trainings.split()
    together = packed(each, split)
    for place, recipe in enumerate(each[:2]):
        assert distance(train(recipe, split), together[place]) < 1e-5


def test_a_convolutional_network_in_float32() -> None:
    each = recipes("sam:rho={}", model="small_cnn:width=2,batch_norm=true", epochs=2)
    split = small_trainings.split()
    together = packed(each, split)
    for place, recipe in enumerate(each):
        assert distance(train(recipe, split), together[place]) < 1e-5


def test_large_images_take_the_same_steps() -> None:
    """Beyond a size, convolutions and norms of members are computed one by one."""
    split = small_trainings.split()
    large = {
        part: replace(
            getattr(split, part),
            stored=getattr(split, part).stored.repeat(1, 1, 4, 4),
        )
        for part in ("train", "test")
    }
    model = "small_cnn:width=16,batch_norm=true"
    each = recipes(model=model, epochs=1, warmup_epochs=0)[:2]
    split = replace(split, **large)
    together = packed(each, split)
    for place, recipe in enumerate(each):
        assert distance(train(recipe, split), together[place]) < 1e-4


def test_initial_weights_are_those_of_the_training_alone() -> None:
    each = [r.model_copy(update={"epochs": 1}) for r in recipes()]
    split = small_trainings.split()
    states = [TrainingState.fresh(recipe, split, None) for recipe in each]
    packed_form(states, split)
    for state in states:
        model = build_model(state.recipe, split.in_shape, split.outputs)
        assert small_trainings.same_weights(model, state.model)


def test_members_stop_by_themselves() -> None:
    each = recipes(epochs=12, stop_at_loss=0.45)
    split = small_trainings.split()
    together = packed(each, split)
    lengths = set()
    for place, recipe in enumerate(each):
        alone, outcome = train(recipe, split), together[place]
        assert isinstance(outcome, Trained)
        assert outcome.stopped == alone.stopped
        assert outcome.results == alone.results
        assert distance(alone, outcome) < 1e-10
        lengths.add(len(outcome.history))
    assert len(lengths) > 1


def test_a_member_that_diverges_touches_no_other() -> None:
    each = recipes("sam:rho={}")
    wild = {"name": "sgd", "settings": {"lr": 1e200, "momentum": 0.9}}
    each[1] = Recipe.model_validate(each[1].model_dump() | {"base": wild})
    split = small_trainings.split()
    together = packed(each, split)
    assert isinstance(together[1], TrainingFailedError)
    with pytest.raises(TrainingFailedError) as alone:
        train(each[1], split)
    assert str(together[1]) == str(alone.value)
    for place in (0, 2):
        assert distance(train(each[place], split), together[place]) < 1e-10


def test_rules_and_settings_over_epochs_are_those_alone() -> None:
    changing = ("weight_decay=multi_step(milestones=(2,),factor=0.5)",)
    changing += ("batch_size=multi_step(milestones=(3,),factor=0.5)",)
    more = {"over_epochs": changing, "patience": 2, "min_delta": 0.05}
    each = recipes("asam:rho={}", label_smoothing=0.1, **more)
    split = small_trainings.split()
    together = packed(each, split)
    for place, recipe in enumerate(each):
        assert distance(train(recipe, split), together[place]) < 1e-10


def test_a_schedule_of_one_member_holds_beside_numbers_of_others() -> None:
    each = recipes("sam:rho={}")
    varied = each[1].model_dump() | {"optimizer": "sam:rho=linear(0.5, 0.0)"}
    each[1] = Recipe.model_validate(varied)
    split = small_trainings.split()
    together = packed(each, split)
    assert distance(together[1], train(each[1], split)) < 1e-9


def test_noise_of_a_schedule_and_of_pairs() -> None:
    scheduled = "lpf_sgd:micro_batches=4,antithetic=true,"
    scheduled += "gamma=cosine_increase(start=0.001,factor=15)"
    each = recipes(scheduled, model="packed_models:plain")
    split = small_trainings.split(samples=35)  # a last batch of 3 has 3 shares
    together = packed(each, split)
    for place, recipe in enumerate(each):
        assert distance(train(recipe, split), together[place]) < 1e-10


@pytest.mark.parametrize("method", ["", "lpf_sgd:micro_batches=2,gamma=0.001"])
def test_a_pack_goes_on_from_states_of_its_members(method: str) -> None:
    each = recipes(method)
    split = small_trainings.split()
    kept: dict[int, list[bytes]] = {place: [] for place in range(len(each))}
    straight = packed(
        each,
        split,
        keep=lambda place, state: kept[place].append(state),
        keep_every=0,
    )
    # One member is behind, one has no state at all.
    states = [kept[0][2], kept[1][1], None]
    again = packed(each, split, resume=states)
    for place in range(len(each)):
        assert distance(straight[place], again[place]) < 1e-12
    alone = train(each[0], split, resume=kept[0][1])
    assert distance(straight[0], alone) < 1e-10
    assert len(kept[0][1]) < 30_000  # of its own weights, not of the whole pack


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base": "adam"}, "its base is adam"),
        ({"optimizer": "gsam"}, "its method is gsam"),
        ({"optimizer": "sam:ascent_steps=2"}, "ascent_steps of its method is not 1"),
        ({"optimizer": "asam:p=inf"}, "p of its method is not 2"),
        ({"augment": "basic"}, "its images are augmented"),
        ({"average": "ema"}, "its weights are averaged"),
        ({"l2": 0.1}, "its loss has an L2 penalty"),
        ({"clip_norm": 1.0}, "its gradients are clipped"),
        ({"lr_schedule": "plateau"}, "its learning rate follows a plateau"),
        ({"amp": "bf16"}, "it trains in lower precision"),
        ({}, ""),
    ],
)
def test_why_a_recipe_trains_alone(change: dict[str, Any], reason: str) -> None:
    recipe = Recipe.model_validate(recipes("sam:rho={}")[0].model_dump() | change)
    assert why_alone(recipe) == reason


def test_packs_are_of_one_structure_and_of_nearly_one_size() -> None:
    several = [*recipes(), *recipes("sam:rho={}"), *recipes(epochs=9)[:1]]
    several.append(Recipe.model_validate(several[0].model_dump() | {"base": "adam"}))
    assert packs(several, 10) == [(0, 1, 2), (3, 4, 5), (6,), (7,)]
    assert packs(several, 2) == [(0, 1), (2,), (3, 4), (5,), (6,), (7,)]
    assert packs([], 3) == []


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("mlp:hidden=2,batch_norm=true", FoldedNetwork),
        ("resnet18:width=1", FoldedNetwork),
        ("packed_models:scaled", MappedNetwork),  # members would be centred together
    ],
)
def test_forms_of_networks(model: str, form: type) -> None:
    split = small_trainings.split()
    each = recipes(model=model)
    states = [TrainingState.fresh(recipe, split, None) for recipe in each]
    assert packed_form(states, split) is form


@pytest.mark.parametrize("model", ["random", "frozen"])
def test_networks_that_cannot_be_packed(model: str) -> None:
    each = recipes(model=f"packed_models:{model}")
    with pytest.raises(CannotPackError):
        packed(each, small_trainings.split())


def test_room_for_members(monkeypatch: pytest.MonkeyPatch) -> None:
    split = small_trainings.split()
    recipe = recipes(model="mlp:hidden=7,depth=1")[0]
    taken = bytes_of_member(recipe, split)
    weights = 4 * (64 * 7 + 7 + 7 * 2 + 2)
    assert 6 * weights < taken < 6 * weights + 16 * 4 * 4 * (64 + 7 + 7 + 2 + 2)
    monkeypatch.setenv(BUDGET, f"{3.5 * taken}")
    assert most_members(recipe, split) == 3
    monkeypatch.setenv(BUDGET, "much")
    with pytest.raises(ValueError, match="must be a number of bytes above 0"):
        most_members(recipe, split)


def test_runs_of_a_store_are_done_together(tmp_path: Path) -> None:
    known = {"data": "digits", "train_samples": 100, "label_noise": 0.2, "epochs": 2}
    texts: list[Mapping[str, Any]] = [
        {"model": "mlp:hidden=4", "base": "sgd:lr=0.1"},
        {"model": "mlp:hidden=4", "base": "sgd:lr=0.05", "seed": 3},
        {"model": "mlp:hidden=4", "base": "sgd:lr=1e30"},
        {"model": "packed_models:frozen", "base": "sgd"},
        {"model": "packed_models:frozen", "base": "sgd", "seed": 1},
        {"model": "mlp:hidden=4", "base": "adam"},
    ]
    configs = [config_of(Recipe.model_validate({**known, **each})) for each in texts]
    outcomes: list[dict[int, Any]] = [{}, {}]
    stores = [Store(tmp_path / name) for name in ("together", "alone")]
    folders = []
    for store in stores:
        for config in configs:
            store.add(config)
        folders.append([store.folder(run_id(config)) for config in configs])
    work_together(configs, folders[0], lambda _: None, outcomes[0].__setitem__)
    for place, config in enumerate(configs):
        try:
            outcomes[1][place] = work(config, folders[1][place], lambda _: None)
        except TrainingFailedError as error:
            outcomes[1][place] = error
    assert sorted(outcomes[0]) == list(range(len(configs)))
    assert str(outcomes[0][2]) == str(outcomes[1][2])
    for place in (0, 1, 3, 4, 5):
        one, other = outcomes[0][place], outcomes[1][place]
        assert list(one) == list(other)
        assert one["data"] == other["data"]
        assert one["notes"] == other["notes"]
        assert one["last"] == pytest.approx(other["last"], abs=1e-5)
        files = [sorted(p.name for p in f[place].iterdir()) for f in folders]
        assert files[0] == files[1]
    start = read_json(folders[0][0] / FILE)["starts"][0]
    assert start["packed_with"] == 2
    assert len(read_json(folders[0][3] / FILE)["starts"]) == 1
    assert "packed_with" not in read_json(folders[0][5] / FILE)["starts"][0]


def test_an_error_of_a_whole_pack_fails_no_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("steppe_lab.runs.packed.train_packed", short)
    known = {
        "data": "digits",
        "train_samples": 100,
        "model": "mlp:hidden=4",
        "base": "sgd",
    }
    each = [Recipe.model_validate({**known, "seed": seed}) for seed in range(2)]
    configs = [config_of(recipe) for recipe in each]
    store, outcomes = Store(tmp_path), dict[int, Any]()
    folders = [store.folder(store.add(config)) for config in configs]
    with pytest.raises(MemoryError):  # the worker tries halves then
        work_together(configs, folders, lambda _: None, outcomes.__setitem__)
    assert outcomes == {}


def test_the_record_of_a_run_says_with_how_many_it_was_packed(tmp_path: Path) -> None:
    assert packed_with(tmp_path) == 0
    note_start(tmp_path, "cpu", 3)
    note_start(tmp_path, "cpu")  # gone on with alone after a stop
    assert packed_with(tmp_path) == 3
