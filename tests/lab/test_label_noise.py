"""Label noise: exact counts, expected confusion matrices, levels within each other."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from scipy.stats import chisquare

from steppe.errors import SettingError
from steppe_lab.datasets import Dataset, Selection, TensorSamples, TokenSamples
from steppe_lab.datasets.graphs import GraphSamples
from steppe_lab.datasets.label_noise import LabelNoise, noisy_labels
from steppe_lab.training.settings import PlainSettings

KINDS = get_args(LabelNoise)
CLASSES, SAMPLES = 4, 8000


def labels(samples: int = SAMPLES) -> torch.Tensor:
    """Classes that occur unlike often: 0.4, 0.3, 0.2 and 0.1 of the samples."""
    generator = torch.Generator().manual_seed(1)
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    return torch.multinomial(shares, samples, replacement=True, generator=generator)


def drawn(kind, fraction, seed=0, targets=None):
    generator = torch.Generator().manual_seed(seed)
    targets = labels() if targets is None else targets
    return noisy_labels(
        targets, CLASSES, fraction=fraction, kind=kind, generator=generator
    )


def confusion(true, noisy):
    """How often each true class became each class."""
    return (true * CLASSES + noisy).bincount(minlength=CLASSES**2).view(CLASSES, -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.333, 0.5, 1.0])
@pytest.mark.parametrize("samples", [1, 7, 1001])
def test_exactly_the_rounded_share_has_noise_and_no_other_label_changes(
    kind, fraction, samples
):
    targets = labels(samples)
    noisy, chosen = drawn(kind, fraction, targets=targets)
    assert int(chosen.sum()) == round(fraction * samples)
    assert torch.equal(noisy[~chosen], targets[~chosen])
    assert noisy.dtype == torch.int64
    assert set(noisy.tolist()) <= set(range(CLASSES))


@pytest.mark.parametrize("kind", KINDS)
def test_the_confusion_matrix_is_the_expected_one(kind):
    targets = labels()
    noisy, chosen = drawn(kind, 0.5)
    true, new = targets[chosen], noisy[chosen]
    rows = true.bincount(minlength=CLASSES).double()
    ones = torch.ones(CLASSES, CLASSES, dtype=torch.float64)
    shares = {
        "other": (ones - torch.eye(CLASSES)) / (CLASSES - 1),
        "uniform": ones / CLASSES,
        "shuffled": ones * rows / rows.sum(),
    }[kind]
    table = confusion(true, new)
    assert torch.equal(table.sum(1).double(), rows)
    if kind == "other":
        assert int(table.diagonal().sum()) == 0
    # Shuffled labels keep how often each class occurs: columns are fixed as well.
    free = {"other": CLASSES * (CLASSES - 2), "uniform": CLASSES * (CLASSES - 1)}
    degrees = free.get(kind, (CLASSES - 1) ** 2)
    expected = shares * rows[:, None]
    seen, expected = table[shares > 0].double(), expected[shares > 0]
    fit = chisquare(seen, expected, ddof=len(seen) - 1 - degrees)
    assert fit.pvalue > 0.001


def test_the_test_of_the_matrix_tells_the_kinds_apart():
    targets = labels()
    noisy, chosen = drawn("uniform", 0.5)
    table = confusion(targets[chosen], noisy[chosen]).double()
    rows = table.sum(1)
    shuffled = rows[:, None] * rows / rows.sum()
    assert chisquare(table.flatten(), shuffled.flatten(), ddof=6).pvalue < 1e-9


def test_shuffled_labels_are_those_of_the_samples_chosen():
    targets = labels()
    for fraction in (0.1, 1.0):
        noisy, chosen = drawn("shuffled", fraction)
        before, after = (each[chosen].bincount() for each in (targets, noisy))
        assert torch.equal(before, after)


def test_all_orders_of_shuffled_labels_are_equally_likely():
    targets = torch.arange(3)
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    for seed in range(3000):
        noisy, _ = drawn("shuffled", 1.0, seed, targets)
        counts[tuple(noisy.tolist())] += 1
    assert chisquare(list(counts.values())).pvalue > 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_noise_at_a_low_level_is_noise_at_a_higher_one(kind):
    low, few = drawn(kind, 0.2)
    high, many = drawn(kind, 0.8)
    assert bool((many | ~few).all())
    if kind != "shuffled":
        assert torch.equal(low[few], high[few])
        return
    # A label that is shuffled among more stays with the share n / m of the places;
    # labels differ between places here, so that stays are seen.
    apart = torch.arange(SAMPLES)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    low, high = (
        noisy_labels(apart, SAMPLES, fraction=f, kind="shuffled", generator=g)[0]
        for f, g in zip((0.2, 0.8), generators, strict=True)
    )
    stayed = (low[few] == high[few]).double().mean()
    # Standard deviation of the share: sqrt(1/4 * 3/4 / 1600) = 0.011; five of them.
    assert stayed == pytest.approx(0.25, abs=0.055)


def test_all_kinds_choose_the_same_samples_and_a_seed_others():
    chosen = [drawn(kind, 0.3)[1] for kind in KINDS]
    assert all(torch.equal(each, chosen[0]) for each in chosen)
    assert not torch.equal(drawn("other", 0.3, seed=1)[1], chosen[0])


def test_labels_exchanged_for_another_class_are_those_of_earlier_versions():
    """Stored networks of noisy labels were trained on these."""
    inputs = torch.zeros(12, 1)
    samples = TensorSamples(inputs, torch.arange(12) % 3)
    dataset = Dataset(name="x", train=samples, test=samples, classes=tuple("abc"))
    split = Selection(label_noise=0.5, seed=3).apply(dataset)
    assert split.train.targets.tolist() == [2, 1, 1, 0, 1, 2, 1, 0, 0, 1, 1, 2]


def test_groups_of_the_training_samples_are_those_with_noise_and_the_others():
    targets = labels(50)
    samples = TensorSamples(torch.zeros(50, 1), targets)
    dataset = Dataset(name="x", train=samples, test=samples, classes=tuple("abcd"))
    assert Selection().apply(dataset).train_groups == {}
    split = Selection(label_noise=0.4, label_noise_kind="uniform").apply(dataset)
    groups = split.train_groups
    assert list(groups) == ["clean", "random", "random_true"]
    assert int(groups["random"].chosen.sum()) == 20
    assert torch.equal(groups["clean"].chosen, ~groups["random"].chosen)
    assert torch.equal(groups["random"].targets, split.train.targets)
    assert torch.equal(groups["random_true"].targets, targets)
    everywhere = Selection(label_noise=1.0).apply(dataset)
    assert list(everywhere.train_groups) == ["random", "random_true"]


def graphs(count):
    """Graphs of two nodes and an edge."""
    return GraphSamples(
        features=torch.ones(2 * count, 1),
        edges=torch.tensor([[0], [1]]).repeat(1, count),
        first_node=torch.arange(0, 2 * count + 1, 2),
        first_edge=torch.arange(count + 1),
        graphs=torch.arange(count),
        targets=torch.arange(count) % 4,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "samples",
    [
        graphs(40),
        TensorSamples(torch.zeros(40, 187), torch.arange(40) % 4),
        TensorSamples(torch.zeros(40, 1, 2, 2), torch.arange(40) % 4),
    ],
    ids=["graphs", "series", "images"],
)
def test_samples_of_every_form_with_a_class_each_have_label_noise(kind, samples):
    dataset = Dataset(name="x", train=samples, test=samples, classes=tuple("abcd"))
    split = Selection(
        train_samples=30, subset="stratified", label_noise=0.5, label_noise_kind=kind
    ).apply(dataset)
    assert type(split.train) is type(samples)
    assert int(split.noisy.sum()) == 15
    assert torch.equal(split.true_targets, samples.targets[split.positions])
    same = split.train.targets == split.true_targets
    assert bool(same[~split.noisy].all())
    assert not bool(same[split.noisy].all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("samples", "classes", "task", "sentence"),
    [
        (
            TokenSamples.from_sequences([torch.arange(4)]),
            "abcd",
            "next_token",
            r"one class for each sample, got targets of shape \(1, 3\); leave it out",
        ),
        (
            TensorSamples(torch.zeros(3, 2), torch.zeros(3, 1)),
            "",
            "regression",
            r"label_noise needs at least 2 classes, got 0; leave it out",
        ),
    ],
)
def test_targets_that_are_no_classes_have_no_label_noise(
    kind, samples, classes, task, sentence
):
    dataset = Dataset(
        name="x", train=samples, test=samples, classes=tuple(classes), task=task
    )
    with pytest.raises(SettingError, match=sentence):
        Selection(label_noise=0.5, label_noise_kind=kind).apply(dataset)
    assert torch.equal(Selection().apply(dataset).train.targets, samples.targets)


def test_an_unknown_kind_is_one_sentence():
    with pytest.raises(
        SettingError, match="label_noise_kind must be 'other', 'uniform' or 'shuffled'"
    ):
        Selection(label_noise_kind="symmetric")


def test_settings_offer_every_kind():
    field = PlainSettings.model_fields["label_noise_kind"]
    assert get_args(field.annotation) == KINDS
