"""Trainings on pairs of sentences, from the prepared text to measures."""

from __future__ import annotations

import json

import pytest

import in_process
from parallel_text import prepared_multi30k
from small_trainings import same_weights
from steppe.errors import SettingError
from steppe_lab.analysis import trained
from steppe_lab.cli import main
from steppe_lab.datasets.loading import load_split
from steppe_lab.training.build import build_model
from steppe_lab.training.epochs import Epochs, lengths_for
from steppe_lab.training.loop import train
from steppe_lab.training.readiness import check_ready
from steppe_lab.training.recipe import Recipe

MODEL = "translation_transformer:d_model=8,n_head=2,n_layer=1,ffn_hidden=8"


def recipe(**more):
    settings = {
        "data": "multi30k",
        "model": MODEL,
        "base": "adam:lr=0.01",
        "epochs": 3,
        "batch_size": 16,
        "batch_by": "length",
        "evaluate_every": 3,  # translating takes longer than training
        "test_fraction": 0.2,
    }
    return Recipe.model_validate(settings | more)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return prepared_multi30k(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _data(text, monkeypatch):
    monkeypatch.setenv("STEPPE_DATA_DIR", str(text))


@pytest.mark.slow
def test_resuming_a_training_by_length_equals_never_stopping():
    made = recipe()
    split, kept = load_split(made), []
    whole = train(made, split, keep=kept.append, keep_every=0)
    resumed = train(made, split, resume=kept[0])
    assert same_weights(whole.model, resumed.model)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    assert whole.history[-1]["running_loss"] < whole.history[0]["running_loss"]
    random = train(recipe(batch_by="random", epochs=1), split)
    assert random.history[0]["running_loss"] != whole.history[0]["running_loss"]


def test_batches_by_length_have_less_padding():
    split = load_split(recipe())
    shares = []
    for by in ("random", "length"):
        made = recipe(batch_by=by)
        epochs = Epochs.of(made, len(split.train), lengths_for(made, split.train))
        targets = [split.train.targets_at(rows) for rows in epochs.batches(0)]
        padded = sum(int((each == -100).sum()) for each in targets)
        shares.append(padded / sum(each.numel() for each in targets))
    assert shares[1] < 0.7 * shares[0]


@pytest.mark.slow
def test_a_translation_model_is_trained_and_measured_by_the_command(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "run_local", in_process.run_local)
    words = ["train", "--data", "multi30k", "--model", MODEL, "--base", "adam:lr=0.01"]
    more = ["--steps", "2", "--batch-size", "16", "--optimizer", "sam", "--json"]
    assert main([*words, *more, "--test-fraction", "0.2"]) == 0
    done = json.loads(capsys.readouterr().out)
    measures = ["top_eigenvalue:tol=0.1", "fisher_trace:draws=1"]
    where = [done["checkpoint"], *measures, "--samples", "8", "--json"]
    assert main(["measure", *where]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["refusal"] for row in rows.values()] == ["", ""]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"label_noise": 0.1}, "label_noise needs one class for each sample"),
        ({"data_noise": 0.1}, "data_noise is for images"),
        ({"augment": ("basic",)}, "leave it out"),
        ({"subset": "balanced"}, "subset balanced needs one class for each sample"),
        ({"channels_last": True}, "leave it out"),
        ({"model": "lenet"}, "lenet"),
    ],
)
def test_what_is_not_for_sentences_is_refused_before_any_work(more, rule):
    with pytest.raises(SettingError, match=rule):
        check_ready(recipe(**more))


def test_parts_of_a_batch_and_subsets_are_pairs_too():
    made = recipe(perturbations=2, optimizer="sam", subset="first", train_samples=20)
    split = load_split(made)
    assert split.train.pairs.tolist() == list(range(20))
    (row,) = train(made.model_copy(update={"epochs": 1}), split).history
    assert row["train_loss"] < 10


TEXT = {
    "data": "multi30k:task=language_model,steps=5",
    "model": "lstm_lm:hidden=6,layers=1",
    "base": "sgd:lr=1",
    "batch_by": "random",
    "subset": "first",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, TEXT], ids=["pairs", "text"])
@pytest.mark.parametrize(
    "more",
    [
        {"amp": "bf16"},
        {"optimizer": "sam:rho=0.05", "amp": "bf16", "perturbations": 2},
        {"optimizer": "lpf_sgd:gamma=0.01,micro_batches=4"},
        {"optimizer": "entropy_sgd:inner_steps=2,gamma=0.001,inner_lr=0.1"},
        {"label_smoothing": 0.1, "l2": 0.001, "clip_norm": 0.5},
    ],
    ids=["amp", "sam", "lpf", "entropy", "loss"],
)
def test_ways_to_compute_a_step_take_sequences(more, kind):
    made = recipe(**kind, **more, epochs=1, evaluate_every=1, train_samples=24)
    split = check_ready(made)
    start = build_model(made, split.in_shape, split.outputs)
    trained_network = train(made, split)
    row = trained_network.history[-1]
    assert 0 < row["train_loss"] < 10
    assert 1 < row["test_perplexity"] < 1000
    assert not same_weights(start, trained_network.model)
    weights = trained_network.model.parameters()
    assert all(each.isfinite().all() for each in weights)
