"""Subsets of the training pool and of the test set: exact counts, nested, by seed."""

from __future__ import annotations

import dataclasses
import itertools
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from steppe.errors import SettingError
from steppe_lab.datasets import Dataset, Selection, TensorSamples, load
from steppe_lab.datasets.subsets import Subset
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import CompareSettings, TrainingSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import run_id
from steppe_lab.studies.sweep import with_validation
from steppe_lab.training.settings import PlainSettings

KINDS = get_args(Subset)
SIZES = (500, 300, 150, 50)  # samples of each class
POOL, TEST = sum(SIZES), 400


@pytest.fixture(scope="module")
def dataset():
    """Each input is its own place, so that samples can be told apart."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.arange(4).repeat_interleave(torch.tensor(SIZES))
    targets = targets[torch.randperm(POOL, generator=generator)]
    train = TensorSamples(torch.arange(float(POOL))[:, None], targets)
    test = TensorSamples(
        -1 - torch.arange(float(TEST))[:, None], torch.arange(TEST) % 4
    )
    return Dataset(name="numbers", train=train, test=test, classes=tuple("abcd"))


def places(samples) -> list[int]:
    return samples.inputs.flatten().long().tolist()


def counts(samples) -> list[int]:
    return samples.targets.bincount(minlength=4).tolist()


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5, 0.77, 1.0])
def test_a_share_holds_the_rounded_share_of_every_class(fraction, dataset):
    train = Selection(train_fraction=fraction).apply(dataset).train
    # Halves are rounded up.
    assert counts(train) == [int(fraction * size + 0.5) for size in SIZES]
    assert len(set(places(train))) == len(train)
    assert dataset.train.targets[places(train)].tolist() == train.targets.tolist()


@pytest.mark.parametrize("samples", [1, 2, 10, 37, 333, 999])
def test_so_many_stratified_samples_are_in_proportion(samples, dataset):
    train = Selection(train_samples=samples, subset="stratified").apply(dataset).train
    assert len(train) == samples
    ideal = [samples * size / POOL for size in SIZES]
    assert all(abs(n - i) < 1 for n, i in zip(counts(train), ideal, strict=True))


@pytest.mark.parametrize("samples", [4, 6, 100, 200])
def test_balanced_samples_are_as_many_of_each_class(samples, dataset):
    train = Selection(train_samples=samples, subset="balanced").apply(dataset).train
    assert sum(counts(train)) == samples
    assert max(counts(train)) - min(counts(train)) == (1 if samples % 4 else 0)


def test_the_largest_balanced_subset_is_the_default_and_no_more_is_taken(dataset):
    assert counts(Selection(subset="balanced").apply(dataset).train) == [50] * 4
    half = Selection(subset="balanced", train_fraction=0.5).apply(dataset)
    assert counts(half.train) == [25] * 4
    with pytest.raises(
        SettingError,
        match=r"at most 200 for subset balanced of numbers, got 201\.",
    ):
        Selection(subset="balanced", train_samples=201).apply(dataset)


def test_the_first_samples_are_those_of_the_files_whatever_the_seed(dataset):
    for seed in (0, 1):
        split = Selection(subset="first", train_samples=7, seed=seed).apply(dataset)
        assert places(split.train) == list(range(7))
    share = Selection(subset="first", train_fraction=0.25).apply(dataset)
    assert places(share.train) == list(range(250))


@pytest.mark.parametrize("kind", KINDS)
def test_smaller_subsets_lie_within_larger_ones(kind, dataset):
    sizes = (3, 20, 21, 22, 190)
    sets = [
        set(places(Selection(train_samples=n, subset=kind).apply(dataset).train))
        for n in sizes
    ]
    assert all(few < many for few, many in itertools.pairwise(sets))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "first"])
def test_a_seed_draws_the_same_samples_and_another_one_others(kind, dataset):
    first, again, other = (
        places(Selection(train_samples=40, subset=kind, seed=s).apply(dataset).train)
        for s in (3, 3, 4)
    )
    assert first == again
    assert set(first) != set(other)


def test_every_sample_of_a_class_is_as_likely_in_a_share(dataset):
    taken = torch.zeros(POOL)
    for seed in range(400):
        split = Selection(train_fraction=0.1, seed=seed).apply(dataset)
        taken[split.positions] += 1
    # 40 of 400 expected, with a standard deviation of 6 for each sample.
    assert 14 <= float(taken.min()) <= float(taken.max()) <= 70
    assert float(taken.mean()) == pytest.approx(40)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_test_set_is_taken_in_the_same_way(kind, dataset):
    split = Selection(test_fraction=0.1, subset=kind).apply(dataset)
    assert len(split.test) == 40
    assert split.notes == ("judged on 40 of 400 test samples",)
    if kind in ("stratified", "balanced"):
        assert counts(split.test) == [10] * 4
    if kind == "first":
        assert places(split.test) == [-1 - place for place in range(40)]
    again = Selection(test_fraction=0.1, subset=kind, label_noise=0.5).apply(dataset)
    assert places(again.test) == places(split.test)


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_a_validation_set_of_the_data_is_taken_in_the_same_way(
    kind, dataset
):
    own = dataclasses.replace(dataset, validation=dataset.test)
    taken = {"held_out": "validation", "subset": kind, "train_samples": 40}
    split = Selection(test_fraction=0.1, **taken).apply(own)
    assert split.notes == (
        "judged on 40 of 400 validation samples, not on the test set",
    )
    assert len(set(places(split.test))) == 40
    if kind in ("stratified", "balanced"):
        assert counts(split.test) == [10] * 4
    whole = Selection(**taken).apply(own)
    assert whole.notes == ("judged on 400 validation samples, not on the test set",)
    assert places(whole.test) == places(dataset.test)
    with pytest.raises(SettingError, match=r"test_fraction must leave a sample"):
        Selection(test_fraction=1e-3, **taken).apply(own)


# ---- validation ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_validation_samples_of_their_own_seed_stay_apart(kind, held_out, dataset):
    selections = [
        Selection(
            subset=kind,
            train_samples=samples,
            held_out=held_out,
            validation_seed=2,
            seed=seed,
        )
        for samples, seed in ((100, 0), (100, 1), (None, 1))
    ]
    splits = [selection.apply(dataset) for selection in selections]
    judged = {tuple(places(split.test)) for split in splits}
    assert len(judged) == 1
    apart = Selection(held_out="validation", validation_seed=2).apply(dataset).test
    assert len(apart) == POOL // 5
    for split in splits:
        assert set(places(split.train)).isdisjoint(places(apart))
    if held_out == "validation":
        assert places(splits[0].test) == places(apart)
        assert "judged on 200 unused training samples" in splits[0].notes[0]
    other = Selection(held_out="validation", validation_seed=3).apply(dataset).test
    assert set(places(other)) != set(places(apart))


def test_all_that_is_left_is_trained_on_where_nothing_is_said(dataset):
    split = Selection(validation_seed=0).apply(dataset)
    assert len(split.train) == POOL - POOL // 5
    with pytest.raises(
        SettingError, match=r"at most the 800 samples in the .* not set apart, got 801"
    ):
        Selection(validation_seed=0, train_samples=801).apply(dataset)


@pytest.mark.parametrize("kind", ["random", "first", "stratified"])
def test_without_a_seed_of_its_own_validation_is_the_same_for_smaller_sets(
    kind, dataset
):
    parts = [
        places(
            Selection(train_samples=n, subset=kind, held_out="validation")
            .apply(dataset)
            .test
        )
        for n in (200, 400)
    ]
    assert set(parts[1]) <= set(parts[0])


def test_left_over_classes_are_no_validation_set(dataset):
    with pytest.raises(SettingError, match="set samples of all classes apart with"):
        Selection(subset="balanced", train_samples=40, held_out="validation").apply(
            dataset
        )


def test_a_sweep_leaves_shares_and_validation_samples_as_they_are():
    settings = {"optimizers": ("sam",), "sweep": "rho=0.1,0.2"}
    for more in ({"train_fraction": 0.5}, {"validation_seed": 1}):
        given = CompareSettings(**settings, **more)
        assert with_validation(given) is given


# ---- settings --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train_fraction": 0.0}, r"train_fraction must be > 0 and <= 1, got 0\.0\."),
        ({"train_fraction": 1.5}, r"train_fraction must be > 0 and <= 1, got 1\.5\."),
        ({"test_fraction": -1}, r"test_fraction must be > 0 and <= 1, got -1\."),
        ({"subset": "last"}, "subset must be 'random', 'first', 'stratified' or"),
        ({"validation_seed": -1}, r"validation_seed must be >= 0, got -1\."),
        (
            {"train_fraction": 0.5, "train_samples": 3},
            r"both say how many samples to take, got 3 and 0\.5; give one\.",
        ),
    ],
)
def test_settings_out_of_range_are_sentences(settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        Selection(**settings)


def test_shares_of_no_sample_are_refused(dataset):
    for name in ("train_fraction", "test_fraction"):
        with pytest.raises(SettingError, match=f"{name} must leave a sample, got 1e-0"):
            Selection(**{name: 1e-6}).apply(dataset)


@pytest.mark.parametrize("kind", ["stratified", "balanced"])
def test_subsets_by_class_need_classes(kind):
    numbers = TensorSamples(torch.zeros(3, 2), torch.zeros(3, 1))
    made = Dataset(name="x", train=numbers, test=numbers, task="regression")
    with pytest.raises(SettingError, match=f"subset {kind} needs at least 2 classes"):
        Selection(subset=kind).apply(made)


def test_a_class_without_samples_is_named_where_all_must_occur(dataset):
    made = Dataset(
        name="x", train=dataset.train, test=dataset.test, classes=tuple("abcde")
    )
    assert len(Selection(train_fraction=0.1).apply(made).train) == 100
    with pytest.raises(SettingError, match="samples of every class, got none of e;"):
        Selection(subset="balanced").apply(made)


def test_a_share_replaces_the_number_that_a_data_set_recommends():
    recipe = recipe_of(TrainingSettings(train_fraction=0.5), "sgd", 0)
    assert (recipe.train_samples, recipe.train_fraction) == (None, 0.5)
    with pytest.raises(ValidationError, match="both say how many samples"):
        recipe_of(TrainingSettings(train_fraction=0.5, train_samples=9), "sgd", 0)


@pytest.mark.parametrize("more", [{}, {"validation_seed": 1}])
def test_no_more_is_taken_than_a_subset_has_where_nothing_is_said(more):
    recipe = recipe_of(TrainingSettings(subset="balanced", **more), "sgd", 0)
    train = recipe.selection.apply(load("digits")).train
    counts = train.targets.bincount().tolist()
    assert counts == [100] * 10 if not more else len(set(counts)) == 1


def test_every_setting_of_a_subset_makes_another_run_and_the_default_none():
    changes = (
        {"train_fraction": 0.5},
        {"subset": "first"},
        {"test_fraction": 0.5},
        {"validation_seed": 0},
        {"label_noise_kind": "uniform"},
        {"data_noise": 0.1},
    )
    recipes = [recipe_of(TrainingSettings(**each), "sgd", 0) for each in changes]
    ids = {run_id(config_of(recipe)) for recipe in recipes}
    plain = recipe_of(TrainingSettings(), "sgd", 0)
    assert len(ids | {run_id(config_of(plain))}) == len(changes) + 1
    assert not {name for each in changes for name in each} & plain.model_dump().keys()


def test_settings_offer_every_kind():
    field = PlainSettings.model_fields["subset"]
    offered = [get_args(each) for each in get_args(field.annotation)]
    assert KINDS in offered
