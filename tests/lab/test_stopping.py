"""Rules that stop a training."""

from __future__ import annotations

import csv
import json
from functools import partial
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

import in_process
from steppe.errors import SettingError, UnknownNameError
from steppe_lab import datasets
from steppe_lab.analysis import trained
from steppe_lab.cli import main
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.studies import comparison
from steppe_lab.tasks import TASKS
from steppe_lab.tasks.learning import error_of_most_frequent, note_on_learning
from steppe_lab.training.callbacks.monitor import Monitor, notes
from steppe_lab.training.callbacks.stopping import SIGNS, Bound, Patience, read_bound
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_ready
from steppe_lab.training.recipe import Recipe


def recipe(optimizer: str = "sgd", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=16",
        "train_samples": 96,
        "epochs": 12,
        "batch_size": 32,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe().selection.apply(datasets.load("digits"))


@pytest.fixture(scope="module")
def plain(split):
    """The training that no rule stops."""
    return train(recipe(), split)


def same(left, right) -> bool:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def numbers(rows, name):
    return [row[name] for row in rows]


def test_a_training_ends_at_a_norm_of_its_gradients(split, plain):
    noting = train(recipe(clip_norm=1000.0), split)  # clips none of them
    assert same(noting.model, plain.model)
    norms = numbers(noting.history, "grad_norm")
    bound = norms[4]
    sign = ">=" if bound > norms[0] else "<="
    first = next(
        epoch for epoch, norm in enumerate(norms, 1) if SIGNS[sign](norm, bound)
    )
    rule = {"stop_at": f"grad_norm{sign}{bound!r}", "evaluate_every": 6}
    stopped = train(recipe(clip_norm=1000.0, **rule), split)
    assert 1 < len(stopped.history) == first


@pytest.mark.parametrize("column", ["train_loss", "running_loss"])
def test_a_training_ends_at_the_first_epoch_whose_loss_has_come_down(
    split, plain, column
):
    bound = sorted(numbers(plain.history, column))[5]
    first = next(row["epoch"] for row in plain.history if row[column] <= bound * 1.001)
    done = train(recipe(stop_at_loss=bound * 1.001, stop_on=column), split)
    # The beginning of the other one, learning rates and all.
    assert done.history == plain.history[:first]
    assert done.stopped.startswith(f"{column} is ")
    assert done.stopped.endswith(
        f"in epoch {first}, {'<=' if column == 'train_loss' else '<'} {bound * 1.001:g}"
    )
    assert done.results == {"converged_at": first}
    assert plain.stopped == ""


def test_going_on_notes_the_first_convergence_alone(split, plain):
    bound = sorted(numbers(plain.history, "train_loss"))[5] * 1.001
    first = next(r["epoch"] for r in plain.history if r["train_loss"] <= bound)
    done = train(recipe(stop_at_loss=bound, go_on=True), split)
    assert done.history == plain.history
    assert same(done.model, plain.model)
    assert (done.stopped, done.results) == ("", {"converged_at": first})
    never = train(recipe(stop_at_loss=0.0, go_on=True, epochs=1), split)
    assert never.results == {"converged_at": None}


def test_an_accuracy_is_1_minus_its_error(split, plain):
    errors = numbers(plain.history, "train_error")
    accuracy = 1 - sorted(errors)[6]
    first = next(r["epoch"] for r in plain.history if 1 - r["train_error"] >= accuracy)
    done = train(recipe(stop_at=f"train_accuracy >= {accuracy!r}"), split)
    assert len(done.history) == first < 12
    reached = 1 - plain.history[first - 1]["train_error"]
    assert done.stopped.startswith(f"train_accuracy is {reached:.4g} in epoch")
    strict = train(recipe(stop_at=f"train_error<{1 - accuracy!r}"), split)
    assert len(strict.history) >= first


def test_the_loss_at_perturbed_weights_is_that_of_sams_second_passes(split):
    made = recipe(
        "sam:rho=0.1", stop_at_loss=0.0, stop_on="running_perturbed_loss", epochs=2
    )
    row = train(made, split).history[0]
    assert row["running_perturbed_loss"] > row["running_loss"]
    # One batch: the mean of the epoch is the loss that the step tells.
    from steppe_lab.training.state import TrainingState
    from steppe_lab.training.step import take_step

    whole = made.model_copy(update={"batch_size": 96, "epochs": 1})
    state = TrainingState.fresh(whole, split, None)
    (rows,) = state.epochs.batches(0)
    state.optimizer.param_groups[0]["lr"] = 0.0
    take_step(state, split.train, split.train.batch(rows), torch.ones(96))
    wanted = state.optimizer.metrics()["perturbed_loss"]
    one = train(whole, split).history[0]
    assert one["running_perturbed_loss"] == pytest.approx(wanted, rel=1e-6)
    # A plain base has no other weights.
    bare = train(recipe(stop_at_loss=0.0, stop_on="running_perturbed_loss"), split)
    assert bare.history[0]["running_perturbed_loss"] == pytest.approx(
        bare.history[0]["running_loss"]
    )
    assert "running_perturbed_loss" not in train(recipe("sam"), split).history[0]


def test_a_running_loss_stops_between_scores_and_the_last_epoch_is_scored(split, plain):
    bound = plain.history[4]["running_loss"] * 1.001
    done = train(
        recipe(stop_at_loss=bound, stop_on="running_loss", evaluate_every=12), split
    )
    assert len(done.history) == 5
    assert ["train_loss" in row for row in done.history] == [False] * 4 + [True]
    assert done.history[-1] == plain.history[4]


class State:
    """As much of the state of a training as a rule looks at."""

    def __init__(self):
        self.epoch, self.stopped = 0, ""


def stopped_after(values, patience, better="smaller") -> tuple[int, str]:
    """Epochs until a rule stops, as Keras' EarlyStopping counts them."""
    rule, state = Patience(Monitor("x", better), patience), State()
    for value in values:
        state.epoch += 1
        other = Patience(Monitor("x", better), patience)
        other.load_state_dict(rule.state_dict())  # as after a stop
        rule = other
        rule.after_epoch(state, {} if value is None else {"x": value})
        if state.stopped:
            break
    return state.epoch, state.stopped


@pytest.mark.parametrize(
    ("values", "patience", "better", "epoch"),
    [
        ([3, 2, 2, 2, 1], 2, "smaller", 4),
        ([3, 2, 2, 1, 1, 1, 0], 2, "smaller", 6),
        ([3, 2, 2, 1, 1, 1, 0], 3, "smaller", 7),
        ([1, 2, 2, 3, 2, 2], 2, "larger", 6),
        ([1, float("nan"), float("nan"), 0], 2, "smaller", 3),
        ([float("nan"), 1, 2, 3], 2, "smaller", 4),
        ([None, None, 1, 2, 3], 2, "smaller", 5),  # an average that holds nothing yet
        ([2, 3], 1, "smaller", 2),
    ],
)
def test_patience_counts_epochs_without_progress(values, patience, better, epoch):
    at, reason = stopped_after(values, patience, better)
    assert at == epoch
    if values[-1] == 0 and epoch == len(values):
        assert reason == ""
    else:
        assert reason.startswith(f"x has not improved for {patience} epochs, since it")


@pytest.mark.parametrize("better", ["smaller", "larger"])
@pytest.mark.parametrize("min_delta", [0.0, 0.125, 0.5])
def test_min_delta_is_the_absolute_threshold_of_torch(min_delta, better):
    sign = 1 if better == "smaller" else -1
    steps = torch.randint(-4, 3, (60,), generator=torch.Generator().manual_seed(1))
    values = [sign * v for v in (steps.cumsum(0) / 8).tolist()]  # exact in binary
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        torch.optim.SGD([weight], lr=1.0),
        mode="min" if better == "smaller" else "max",
        patience=2,  # drops one epoch later than a patience of 2 stops
        threshold=min_delta,
        threshold_mode="abs",
    )
    rule, state = Patience(Monitor("x", better), 3, min_delta), State()
    for value in values:
        state.epoch += 1
        theirs.step(value)
        rule.after_epoch(state, {"x": value})
        assert bool(state.stopped) == (theirs.optimizer.param_groups[0]["lr"] < 1)
        if state.stopped:
            break
    said = f" by more than {min_delta:g}" if min_delta else ""
    assert state.stopped.startswith(f"x has not improved{said} for 3 epochs, since")


def test_min_delta_ends_a_training_and_is_in_no_old_record(split, plain):
    losses = numbers(plain.history, "train_loss")
    drops = [before - after for before, after in pairwise(losses)]
    rule = {"patience": 1, "min_delta": drops[3] * 1.001, "monitor": "train_loss"}
    slow = next(n for n, drop in enumerate(drops, 2) if drop <= rule["min_delta"])
    done = train(recipe(**rule), split)
    assert done.history == plain.history[:slow]
    assert "min_delta" not in recipe(patience=1).model_dump()
    assert recipe(**rule).model_dump()["min_delta"] == rule["min_delta"]


def test_patience_may_look_at_an_accuracy(split):
    """Of which larger ones are better, as Keras' val_acc."""
    rules = [
        {"patience": 2, "monitor": name, "lr_schedule": "constant", "epochs": 20}
        for name in ("test_error", "test_accuracy")
    ]
    error, accuracy = (train(recipe(**rule), split) for rule in rules)
    assert error.history == accuracy.history
    assert len(error.history) < 20
    assert accuracy.stopped.startswith("test_accuracy has not improved for 2 epochs")


@pytest.mark.parametrize(
    "rule",
    [
        {"patience": 2, "monitor": "test_error"},
        {"stop_at": "train_error<=0.3", "go_on": True, "patience": 4},
        {"stop_at_loss": 0.9, "stop_on": "running_perturbed_loss"},
    ],
)
def test_stopping_and_resuming_changes_neither_weights_nor_the_epoch(split, rule):
    made = recipe("sam:rho=0.1", lr_schedule="constant", **rule)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len(kept) >= 2
    for state in kept[:: len(kept) // 2]:
        resumed = train(made, split, resume=state)
        assert same(resumed.model, straight.model)
        assert resumed.history == straight.history
        assert (resumed.stopped, resumed.results) == (
            straight.stopped,
            straight.results,
        )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"stop_on": "running_loss"}, ValidationError, "goes with --stop-at-loss, got"),
        ({"go_on": True}, ValidationError, "with --stop-at-loss or --stop-at, got it"),
        (
            {"stop_at": "train_loss<1", "stop_at_loss": 1.0},
            ValidationError,
            "--stop-at-loss and --stop-at exclude each other, got both",
        ),
        ({"stop_at_loss": -1.0}, ValidationError, "greater than or equal to 0"),
        ({"min_delta": 0.1}, ValidationError, "--min-delta goes with --patience, got"),
        ({"patience": 0}, ValidationError, "greater than or equal to 1"),
        (
            {"stop_on": "loss", "stop_at_loss": 1.0},
            ValidationError,
            "'running_loss' or",
        ),
        ({"stop_at": "train_accuracy"}, SettingError, "is a column of the history, a"),
        ({"stop_at": "train_loss<x"}, SettingError, "as train_accuracy>=0.99, got"),
        ({"stop_at": "train_acc>1"}, UnknownNameError, "did you mean 'train_accuracy'"),
        ({"stop_at": "train_eror<=0"}, UnknownNameError, "did you mean 'train_error'"),
        (
            {"stop_at_loss": 0.1, "evaluate_every": 3},
            SettingError,
            "must be 1 to monitor train_loss after every epoch, got 3; leave it out, "
            "or give --stop-on running_loss",
        ),
        (
            {"stop_at": "train_loss<1", "evaluate_every": 3},
            SettingError,
            "leave it out, or stop at a bound on running_loss",
        ),
        (
            {"stop_at_loss": 0.1, "monitor": "running_loss"},
            SettingError,
            "running_loss and neither; for --stop-at-loss give --stop-on running_loss",
        ),
        (
            {"patience": 3, "monitor": "test_error", "evaluate_every": 2},
            SettingError,
            "or monitor running_loss",
        ),
        (
            {
                "optimizer": "sam",
                "stop_at_loss": 0.1,
                "stop_on": "running_perturbed_loss",
                "perturbations": 2,
            },
            SettingError,
            "of one perturbation of the batch, got perturbations 2; stop on running_",
        ),
        ({"patience": 3, "monitor": "mae"}, UnknownNameError, "metric to monitor"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused_before_any_work(
    settings, error, message
):
    with pytest.raises(error, match=message):
        check_ready(recipe(**settings))


def test_conditions_are_read_with_any_sign():
    for sign in ("<", "<=", ">", ">="):
        assert read_bound(f" test_error{sign}1e-2 ") == ("test_error", sign, 0.01)
    task = TASKS.build("classification")
    bound = Bound.of(recipe(stop_at="test_accuracy>0.5"), task)
    assert bound.monitor == Monitor("test_accuracy", "larger", "test_error")
    assert bound.met({"test_error": 0.4}) == 0.6
    assert bound.met({"test_error": 0.5}) is None
    assert bound.met({"test_error": float("nan")}) is None
    assert bound.met({}) is None


@pytest.mark.parametrize(
    ("lr", "fix"),
    [
        ("0", "train for more epochs or raise the learning rate"),
        ("300", "lower the learning rate"),
        ("0.2", ""),
    ],
)
def test_the_command_says_that_a_network_has_not_learnt(
    lr, fix, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(trained, "run_local", in_process.run_local)
    words = ["train", "--optimizer", f"sgd:lr={lr},momentum=0", "--epochs", "4"]
    words += ["--model", "mlp:hidden=16", "--lr-schedule", "constant", "--seed", "3"]
    words += ["--train-samples", "96", "--batch-size", "16", "--out", str(tmp_path)]
    assert main(words) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("Note: the network has not learnt: its train error, " in text) == bool(fix)
    assert (f"that of the most frequent class; {fix}." in text) == bool(fix)
    assert main([*words, "--json"]) == 0
    assert ("unlearnt" in json.loads(capsys.readouterr().out)) == bool(fix)


def test_the_error_of_the_most_frequent_class_is_known_of_classes_alone():
    task = TASKS.build("classification")
    labels = TensorSamples(torch.zeros(5, 1), torch.tensor([1, 1, 0, 7, 1]))
    assert error_of_most_frequent(task, labels) == 0.4
    numbers = TASKS.build("regression")
    values = labels.with_targets(torch.zeros(5, 1))
    assert error_of_most_frequent(numbers, values) is None
    note = partial(note_on_learning, highest_loss=2.0, classes=5)
    assert note(0.4, None) == note(0.39, 0.4) == ""
    assert "40.00%, is not below 40.00%, that of the most frequent" in note(0.4, 0.4)


def test_the_command_says_why_and_when(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trained, "run_local", in_process.run_local)
    words = ["train", "--optimizer", "sgd", "--model", "mlp:hidden=16", "--epochs", "9"]
    words += ["--train-samples", "96", "--batch-size", "16", "--out", str(tmp_path)]
    words += ["--stop-at-loss", "2.2"]
    assert main(words) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Stopped: train_loss is 2." in text
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["last"]["epoch"] == record["converged_at"] < 9
    assert record["stopped"].endswith("<= 2.2")
    assert main([*words, "--go-on"]) == 0
    assert "Converged in epoch " in capsys.readouterr().out


@pytest.mark.slow
def test_a_comparison_says_where_each_optimizer_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "run_local", in_process.run_local)
    words = ["compare", "sgd", "sam", "--model", "mlp:hidden=16", "--seeds", "2"]
    words += ["--epochs", "9", "--train-samples", "96", "--batch-size", "16"]
    words += ["--line-points", "3", "--measures", "loss", "--out", str(tmp_path)]
    words += ["--lr-schedule", "constant", "--stop-at-loss", "2"]
    assert main(words) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "epochs" in text
    (table,) = tmp_path.rglob("compare-*.csv")
    ends = {}
    for row in csv.DictReader(table.read_text().splitlines()):
        epoch = int(float(row["epoch"]))
        ends.setdefault(row["label"], []).append(epoch)
        assert float(row["stop_at_loss"]) == 2
        assert not row["stopped"] or f"epoch {epoch}," in row["stopped"]
    assert min(map(min, ends.values())) < 9
    spans = {n: (min(e), max(e)) for n, e in ends.items()}
    said = [
        f"{name} after {low}" + (f" to {high}" if high > low else "")
        for name, (low, high) in spans.items()
    ]
    assert (
        "Rules ended trainings, so that networks are compared where each ended and "
        f"not at equal epochs: {said[0]} and {said[1]}."
    ) in text


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({"patience": 3, "monitor": "test_error"}, "followed test_error, so scores"),
        ({"stop_at": "test_accuracy>=0.9"}, "followed test_accuracy>=0.9, so scores"),
        ({"stop_at": "test_accuracy>=0.9", "go_on": True}, ""),
        ({"patience": 3}, ""),
    ],
)
def test_a_rule_that_looks_at_test_scores_is_noted(settings, noted):
    said = notes(recipe(**settings))
    assert [noted in text for text in said] == [True] * bool(noted)
    assert not notes(recipe(**settings, held_out="validation"))
