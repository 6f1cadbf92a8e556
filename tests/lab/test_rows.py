"""Samples that go through a network of tokens at once, by the size of their logits."""

from __future__ import annotations

import pytest
import torch

import sentences
from steppe_lab.datasets import Selection, TokenSamples, load
from steppe_lab.models import MODELS
from steppe_lab.runs.analysis import objective_on
from steppe_lab.tasks import TASKS
from steppe_lab.training import rows
from steppe_lab.training.evaluation import evaluate
from steppe_lab.training.rows import LOGITS, rows_within, scored_rows

PAIRS = sentences.load().train  # 9 positions, a vocabulary of 14


@pytest.mark.parametrize(
    ("vocabulary", "positions", "expected"),
    [(4, 10, 256), (32_000, 100, LOGITS // 3_200_000), (10**7, 5, 1)],
)
def test_logits_bound_the_samples(vocabulary, positions, expected):
    tokens = torch.full((3, positions + 1), vocabulary - 1)
    samples = TokenSamples.from_sequences(tokens)
    assert rows_within(samples, TASKS.build("next_token")) == expected


def test_classes_do_not():
    assert rows_within(load("digits").test, TASKS.build("classification"), 77) == 77


def test_measurements_and_scores_of_pairs_are_those_of_fewer_at_once(monkeypatch):
    split = Selection().apply(sentences.load())
    task = TASKS.build("translation")
    model = sentences.Backwards(2.0, slips=3)
    whole = objective_on(model, split, samples=50, seed=0)
    score = evaluate(model, split.test, task)
    monkeypatch.setattr(rows, "LOGITS", 20 * PAIRS.in_shape[0] * 14)
    parted = objective_on(model, split, samples=50, seed=0)
    assert [len(targets) for _, targets in parted.batches] == [20, 20, 10]
    assert len(whole.batches) == 1
    assert parted.value().value == pytest.approx(whole.value().value, rel=1e-6)
    assert scored_rows(model, split.test, task) == 20
    fewer = evaluate(model, split.test, task)
    assert fewer.loss == pytest.approx(score.loss, rel=1e-6)
    model.score_batch = 7
    assert scored_rows(model, split.test, task) == 7


def test_networks_that_say_how_many_are_scored_so():
    model = MODELS.build("lstm_lm:hidden=4,layers=1", (5,), 9)
    samples = TokenSamples.from_stream(torch.arange(9).repeat(20), 5)
    assert scored_rows(model, samples, TASKS.build("next_token")) == model.score_batch
