"""Label smoothing and L2 in the loss of a training, its scores and its measures."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

import in_process
import steppe
from steppe.errors import SettingError
from steppe.losses import L2, LabelSmoothing
from steppe_lab import datasets
from steppe_lab.analysis import trained
from steppe_lab.cli import main
from steppe_lab.tasks import TASKS
from steppe_lab.training.build import build_lr_schedule, build_model
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.evaluation import evaluate
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_ready
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.step import micro_batch_loss, micro_batch_scale
from steppe_lab.training.trained_loss import TrainedLoss


def recipe(optimizer="sgd:lr=0.1,momentum=0,weight_decay=0", **more) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=8",
        "train_samples": 96,
        "epochs": 2,
        "batch_size": 32,
        **read_optimizer(optimizer, "sgd:lr=0.1,momentum=0,weight_decay=0"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe().selection.apply(datasets.load("digits"))


def published(logits, classes, s):
    targets = torch.full_like(logits, s / (logits.shape[1] - 1))
    targets.scatter_(1, classes.unsqueeze(1), 1 - s)
    return F.kl_div(F.log_softmax(logits, 1), targets, reduction="batchmean")


def by_hand(made, split, loss) -> nn.Module:
    """The training as a loop of plain torch."""
    model = build_model(made, split.in_shape, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    epochs, rate = Epochs.of(made, 96), build_lr_schedule(made, 96)
    rows = itertools.chain.from_iterable(map(epochs.batches, range(made.epochs)))
    for step, places in enumerate(rows):
        optimizer.param_groups[0]["lr"] = rate(step)
        inputs, targets = split.train.batch(places)
        optimizer.zero_grad()
        loss(model, inputs, targets).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        (
            {"label_smoothing": 0.2},
            lambda model, x, y: published(model(x), y, 0.2),
        ),
        (
            {"label_smoothing": 0.2, "label_smoothing_form": "all"},
            lambda model, x, y: F.cross_entropy(model(x), y, label_smoothing=0.2),
        ),
        (
            {"l2": 0.01, "l2_on": "all"},
            lambda model, x, y: (
                F.cross_entropy(model(x), y)
                + 0.01 * sum(p.square().sum() for p in model.parameters())
            ),
        ),
    ],
    ids=["others", "all", "l2"],
)
def test_training_is_that_of_a_loop_by_hand(split, settings, loss):
    made = recipe(**settings)
    ours, theirs = train(made, split).model, by_hand(made, split, loss)
    plain = train(recipe(), split).model
    states = (each.state_dict() for each in (ours, theirs, plain))
    for a, b, c in zip(*(state.values() for state in states), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(a, c, rtol=1e-4, atol=1e-6)


def steps(optimizer, penalty: L2 | None, **settings) -> torch.Tensor:
    """Weights after 20 steps in float64, as one vector."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    inputs, classes = torch.randn(8, 4).double(), torch.randint(3, (8,))
    stepper = optimizer(model.parameters(), lr=0.05, **settings)
    loss = TrainedLoss(TASKS.build("classification"), penalty)
    for _ in range(20):
        stepper.zero_grad()
        mean = loss.task.loss(model(inputs), classes, reduction="mean")
        loss.penalised(mean, model).backward()
        stepper.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_l2_is_half_the_weight_decay_of_torch_where_that_is_in_the_gradient():
    x, penalty = 0.01, L2(0.01, "all")
    sgd = steps(torch.optim.SGD, penalty, momentum=0.9)
    decayed = steps(torch.optim.SGD, None, momentum=0.9, weight_decay=2 * x)
    torch.testing.assert_close(sgd, decayed, rtol=0, atol=1e-12)
    adam = steps(torch.optim.Adam, penalty)
    coupled = steps(torch.optim.Adam, None, weight_decay=2 * x)
    torch.testing.assert_close(adam, coupled, rtol=0, atol=1e-12)
    decoupled = steps(torch.optim.AdamW, None, weight_decay=2 * x)
    assert (adam - decoupled).abs().max() > 1e-3
    kernels = steps(torch.optim.SGD, L2(x), momentum=0.9)
    assert (sgd - kernels).abs().max() > 1e-4


def test_micro_batches_have_the_penalty_once(split):
    one = "lpf_sgd:gamma=1e-9,micro_batches={}"
    settings = {"l2": 0.01, "label_smoothing": 0.1}
    whole, parts = (
        train(recipe(one.format(count), **settings), split) for count in (1, 4)
    )
    assert whole.history[0]["running_loss"] == pytest.approx(
        parts.history[0]["running_loss"], rel=1e-4
    )
    pairs = zip(whole.model.parameters(), parts.model.parameters(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("form", ["others", "all"])
def test_micro_batches_of_sequences_add_up_to_the_smoothed_loss_of_the_batch(form):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, 5, generator=generator).double()
    tokens = torch.randint(5, (4, 6), generator=generator)
    tokens[0, 1:] = tokens[1, 3:] = -100
    task = TASKS.build("next_token").smoothed(LabelSmoothing(0.1, form=form))
    terms = task.terms(tokens)
    parts = [
        micro_batch_loss(
            task,
            logits[rows],
            tokens[rows],
            micro_batch_scale(2, 4, int(terms[rows].sum()), int(terms.sum())),
        )
        for rows in (slice(0, 2), slice(2, 4))
    ]
    counted = tokens != -100
    wanted = LabelSmoothing(0.1, form=form)(logits[counted], tokens[counted]).mean()
    torch.testing.assert_close(sum(parts) / 2, wanted)
    # The perplexity stays that of the model's own distribution.
    plain = F.cross_entropy(logits[counted], tokens[counted], reduction="none")
    assert torch.equal(task.metrics(logits, tokens)["perplexity"], plain)


def test_scores_are_plain_unless_those_of_the_loss_trained_on_are_asked_for(split):
    settings = {"label_smoothing": 0.3, "l2": 0.01}
    plain = train(recipe(**settings), split)
    trained = train(recipe(**settings, scored_loss="trained"), split)
    classes = split.train.targets
    with torch.no_grad():
        logits = plain.model(split.train.batch(slice(0, 96))[0])
    assert plain.history[-1]["train_loss"] == pytest.approx(
        float(F.cross_entropy(logits, classes)), rel=1e-5
    )
    penalty = L2(0.01)(plain.model.parameters()).item()
    assert penalty > 0.01
    assert trained.history[-1]["train_loss"] == pytest.approx(
        float(published(logits, classes, 0.3)) + penalty, rel=1e-5
    )
    same = [{**row, "train_loss": 0, "test_loss": 0} for row in trained.history]
    assert same == [{**r, "train_loss": 0, "test_loss": 0} for r in plain.history]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "run_local", in_process.run_local)

    def run(*words: str):
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    words = "train --optimizer sgd --model mlp:hidden=4 --epochs 1 --train-samples 64"
    training = [*words.split(), "--out", str(tmp_path)]

    def command_of(verb: str, *more: str):
        return run(*(training if verb == "train" else [verb]), *more)

    return command_of


def test_measures_of_a_checkpoint_are_of_the_loss_trained_on_or_of_the_plain_one(
    command,
):
    done = command("train", "--l2", "0.05", "--label-smoothing", "0.1")
    assert done["notes"][-1] == (
        "trained on LabelSmoothing(0.1, form='others') + L2(coefficient=0.05, "
        "parameters='kernels'); the losses of scores are cross_entropy"
    )
    path = done["checkpoint"]
    trained = command("measure", path, "loss", "trace")
    plain = command("measure", path, "loss", "trace", "--loss", "plain")
    details = trained["loss"]["details"]
    assert details["loss"] == "LabelSmoothing(smoothing=0.1, form='others')"
    assert details["penalty"] == "L2(coefficient=0.05, parameters='kernels')"
    assert plain["loss"]["details"]["loss"] == "cross_entropy"
    assert "penalty" not in plain["loss"]["details"]
    kernels = 64 * 4 + 4 * 4 + 4 * 10
    # Smoothed classes leave the Hessian of a network that is linear in each parameter.
    gained = trained["trace"]["value"] - plain["trace"]["value"]
    assert gained == pytest.approx(2 * 0.05 * kernels, rel=1e-4)

    scores = command("evaluate", path)
    assert scores["train_loss"] == pytest.approx(plain["loss"]["value"], rel=1e-5)
    assert scores["train_trained_loss"] == pytest.approx(
        trained["loss"]["value"], rel=1e-5
    )
    assert scores["l2_penalty"] == pytest.approx(details["penalty_value"], rel=1e-5)
    assert scores["test_trained_loss_stderr"] > 0


def test_a_checkpoint_with_l2_alone_is_scored_with_and_without_it(command):
    path = command("train", "--l2", "0.05")["checkpoint"]
    scores = command("evaluate", path)
    for part in ("train", "test"):
        gained = scores[f"{part}_trained_loss"] - scores[f"{part}_loss"]
        assert gained == pytest.approx(scores["l2_penalty"])
    assert scores["l2_penalty"] > 0.05


def test_checkpoints_of_unlike_losses_are_compared_in_the_plain_one(command, capsys):
    one = command("train", "--l2", "0.05")["checkpoint"]
    other = command("train", "--seed", "1")["checkpoint"]
    words = ["measure", one, "loss", "--and", other, "--groups", "3"]
    assert main(words) == 2
    assert "give --loss plain." in capsys.readouterr().err
    assert main(["landscape", one, other]) == 2
    assert "compared in one loss, got cross_entropy + L2(" in capsys.readouterr().err
    assert command(*words, "--loss", "plain")


@pytest.mark.slow
def test_a_tracker_follows_the_hessian_of_the_loss_trained_on(split):
    made = recipe(l2=0.05, track="spectrum:k=1,tol=1e-4", epochs=1)
    done = train(made, split)
    loss = TrainedLoss.of(made, split.task)
    objective = loss.objective(done.model, split.train.batches(96))
    H = steppe.Hessian(objective)
    top = torch.linalg.eigvalsh((H @ torch.eye(H.shape[0])).double())[-1]
    assert done.results["tracked"][-1]["SN"] == pytest.approx(float(top), rel=1e-2)


def test_what_has_no_meaning_is_refused_before_any_work(tmp_path, monkeypatch):
    for name, value, needed in (
        ("label_smoothing_form", "all", "--label-smoothing"),
        ("l2_on", "all", "--l2"),
        ("scored_loss", "trained", "--label-smoothing or --l2"),
    ):
        with pytest.raises(ValidationError, match=f"goes with {needed}, got it alone"):
            recipe(**{name: value})
    with pytest.raises(SettingError, match=r"at most 1 - 1 / classes .* 10 classes"):
        check_ready(recipe(label_smoothing=0.95))
    check_ready(recipe(label_smoothing=0.95, label_smoothing_form="all"))
    with pytest.raises(SettingError, match="needs a task of classes, got Regression"):
        TASKS.build("regression").smoothed(LabelSmoothing(0.1, form="all"))


def test_a_task_with_smoothing_leaves_the_plain_one_alone(split):
    plain = TASKS.build("classification")
    smooth = plain.smoothed(LabelSmoothing(0.3, form="others"))
    model = build_model(recipe(), split.in_shape, 10)
    scores = [evaluate(copy.deepcopy(model), split.test, t) for t in (plain, smooth)]
    assert scores[0].metrics == scores[1].metrics
    assert scores[0].loss != scores[1].loss
    assert (plain.objective_loss, plain.smoothing) == ("cross_entropy", None)
