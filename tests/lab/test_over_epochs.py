"""Batch sizes, weight decay and L2 that change over the epochs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import own_files
from steppe.errors import SettingError, UnknownNameError
from steppe.losses import L2
from steppe.seeds import stream
from steppe_lab import datasets
from steppe_lab.analysis.evaluated import evaluate_one
from steppe_lab.analysis.single import read_network
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.analysis import Analysis, analyse
from steppe_lab.runs.training import train_network
from steppe_lab.store.store import Store
from steppe_lab.training.build import build_lr_schedule, build_model, build_optimizer
from steppe_lab.training.checkpoints import read_weights
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.over_epochs import read_over_epochs
from steppe_lab.training.readiness import check_ready, check_settings
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.trained_loss import TrainedLoss

SAMPLES = 60
GROWING = "batch_size=piecewise(boundaries=(2,3),values=(10,20,7))"  # 6, 6, 3, 9, 9


def recipe(*texts: str, optimizer: str = "sgd:lr=0.05", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=4",
        "train_samples": SAMPLES,
        "epochs": 5,
        "batch_size": 20,
        "over_epochs": texts,
        **read_optimizer(optimizer, str(more.pop("base", "sgd:lr=0.05"))),
        **more,
    }
    if "steps" in more:
        settings.pop("epochs")
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe().selection.apply(datasets.load("digits"))


def test_batches_have_the_size_of_their_epoch():
    epochs = Epochs.of(recipe(GROWING), SAMPLES)
    sizes = [[len(rows) for rows in epochs.batches(e)] for e in range(5)]
    by_seven = [*[7] * 8, 4]
    assert sizes == [[10] * 6, [10] * 6, [20] * 3, by_seven, by_seven]
    assert [epochs.first_step(e) for e in range(6)] == [0, 6, 12, 15, 24, 33]
    assert (epochs.steps, epochs.smallest_batch) == (33, 4)
    for epoch in range(5):  # the order is that of one size
        order = torch.randperm(SAMPLES, generator=stream(0, epoch))
        assert torch.equal(torch.cat(list(epochs.batches(epoch))), order)


def test_an_incomplete_batch_of_any_size_can_be_dropped():
    epochs = Epochs.of(recipe(GROWING, last_batch="drop"), SAMPLES)
    assert [epochs.first_step(e) for e in range(6)] == [0, 6, 12, 15, 23, 31]
    assert {len(rows) for rows in epochs.batches(4)} == {epochs.smallest_batch} == {7}


@pytest.mark.parametrize("steps", [5, 12, 13, 24, 30])
def test_a_budget_ends_epochs_of_unlike_numbers_of_steps(steps):
    epochs = Epochs.of(recipe(GROWING, steps=steps), SAMPLES)
    before = [0, 6, 12, 15, 24, 33]
    assert epochs.steps == steps
    assert epochs.count == next(n for n, first in enumerate(before) if first >= steps)
    total = sum(len(epochs.batches(e)) for e in range(epochs.count))
    assert total == steps


def test_times_of_the_learning_rate_are_epochs_of_unlike_numbers_of_steps():
    text = "multi_step(milestones=(2,4),factor=0.5)"
    rate = build_lr_schedule(recipe(GROWING, lr_schedule=text), SAMPLES)
    assert [rate(t) for t in (11, 12, 23, 24)] == [0.05, 0.025, 0.025, 0.0125]
    warm = build_lr_schedule(
        recipe(GROWING, lr_schedule="constant", warmup_epochs=2.5), SAMPLES
    )
    assert warm(13) < 0.05 == warm(14)  # 12 steps, and half of 3, to the even number
    cosine = build_lr_schedule(recipe(GROWING), SAMPLES)
    assert (cosine(33), cosine(16)) == pytest.approx((0.0, 0.02619), rel=1e-3)


def test_the_history_has_the_values_of_each_epoch(split):
    made = recipe(GROWING, "weight_decay=multi_step(milestones=(1,))")
    history = train(made, split).history
    assert [row["batch_size"] for row in history] == [10, 10, 20, 7, 7]
    decays = [5e-4, *[5e-5] * 4]
    assert [row["weight_decay"] for row in history] == pytest.approx(decays)


def by_hand(split, decays, penalties, *, lr=0.05):
    """Weights of plain SGD with weight decay and L2 of each epoch, written out."""
    made = recipe(lr_schedule="constant", base=f"sgd:lr={lr},momentum=0")
    model = build_model(made, split.in_shape, split.outputs)
    for epoch, (decay, penalty) in enumerate(zip(decays, penalties, strict=True)):
        for rows in Epochs.of(made, SAMPLES).batches(epoch):
            inputs, targets = split.train.batch(rows)
            model.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            kernels = [p for p in model.parameters() if p.dim() > 1]
            (loss + penalty * sum(p.square().sum() for p in kernels)).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= lr * (p.grad + decay * p)
    return model


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.05,momentum=0", "sam:rho=0"])
def test_weight_decay_and_l2_are_those_of_their_epoch(split, optimizer):
    decays, penalties = (0.1, 0.1, 0.4, 0.4, 0.4), (0.01, 0.01, 0.01, 0.0, 0.02)
    made = recipe(
        "weight_decay=piecewise(boundaries=(2,),values=(0.1,0.4))",
        "l2=piecewise(boundaries=(3,4),values=(0.01,0,0.02))",
        lr_schedule="constant",
        optimizer=optimizer,
        base="sgd:lr=0.05,momentum=0",
        l2=0.01,
    )
    trained, expected = train(made, split).model, by_hand(split, decays, penalties)
    for one, other in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "more",
    [
        {"epoch_size": 40},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"steps": 20}, marks=pytest.mark.slow),
    ],
)
def test_a_stop_changes_no_bit(split, more):
    texts = [GROWING, "weight_decay=multi_step(milestones=(2,))"]
    if "steps" not in more:
        more, texts = {**more, "l2": 0.01}, [*texts, "l2=divide_every_k(k=1)"]
    made = recipe(*texts, optimizer="sam:rho=0.1+ema", **more)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    for state in kept:
        resumed = train(made, split, resume=state)
        assert resumed.history == straight.history
        pairs = zip(resumed.model.parameters(), straight.model.parameters())
        assert all(torch.equal(a, b) for a, b in pairs)


def test_scores_of_the_trained_loss_have_the_l2_of_their_epoch(split):
    text = "l2=piecewise(boundaries=(1,),values=(0.01,1))"
    made = recipe(text, l2=0.01, scored_loss="trained", optimizer="sgd:lr=0", epochs=2)
    first, second = train(made, split).history
    model = build_model(made, split.in_shape, split.outputs)
    kernels = [p.detach() for p in model.parameters() if p.dim() > 1]
    squares = sum(float(p.square().sum()) for p in kernels)
    rise = second["test_loss"] - first["test_loss"]
    assert rise == pytest.approx(0.99 * squares, rel=1e-5)


def test_measures_of_a_trained_network_are_of_its_last_l2():
    text = "l2=piecewise(boundaries=(1,4),values=(0.01,1,0.25))"
    loss = TrainedLoss.of(recipe(text, l2=0.01, epochs=6), "classification")
    assert loss.penalty == L2(0.25)
    shorter = TrainedLoss.of(
        recipe(text, l2=0.01, epochs=6), "classification", epochs=4
    )
    assert shorter.penalty == L2(1.0)
    assert TrainedLoss.of(recipe(l2=0.01), "classification").penalty == L2(0.01)


def test_measures_of_a_checkpoint_are_of_the_l2_of_its_epoch(tmp_path):
    text = "l2=piecewise(boundaries=(1,2),values=(0.25,0.5,1))"
    made = recipe(text, l2=0.25, epochs=9, stop_at_loss=99, checkpoint_every=1)
    later = made.model_copy(update={"stop_at_loss": None, "epochs": 3})
    penalties = {}
    for each in (made, later):
        store = Store(tmp_path)
        folder = store.folder(store.add(config_of(each)))
        result = train_network(each, folder, lambda progress: None)
        store.finish(folder.name, result)
        for path in sorted(folder.rglob("*.safetensors")):
            penalty = read_network(path, part="train", samples=9).objective.penalty
            penalties[each.epochs, path.stem] = penalty.coefficient
            if path.stem == "model":
                assert str(penalty) in result["notes"][0]
                squares = evaluate_one(path).scores["l2_penalty"] / penalty.coefficient
                kernels = [
                    tensor for tensor in read_weights(path).values() if tensor.dim() > 1
                ]
                expected = sum(float(k.square().sum()) for k in kernels)
                assert squares == pytest.approx(expected, rel=1e-5)
                analysis = Analysis(
                    training=folder.name, measures=("loss",), line_points=0, samples=9
                )
                place = store.folder(store.add(config_of(analysis)))
                record = analyse(analysis, place, lambda progress: None)
                assert record["measures"]["loss"]["details"]["penalty"] == str(penalty)
    assert penalties == {
        (9, "initial"): 0.25,
        (9, "epoch-0001"): 0.25,
        (9, "converged"): 0.25,
        (9, "best-on-test"): 0.25,
        (9, "model"): 0.25,  # stopped after one epoch
        (3, "initial"): 0.25,
        (3, "epoch-0001"): 0.25,
        (3, "epoch-0002"): 0.5,
        (3, "half"): 0.5,
        (3, "best-on-test"): penalties[3, "best-on-test"],
        (3, "epoch-0003"): 1.0,
        (3, "model"): 1.0,
    }


def test_eigenvalues_along_training_are_of_the_l2_of_their_epoch(split):
    text = "l2=piecewise(boundaries=(1,),values=(1,50))"
    track = "spectrum:k=1,samples=60"
    made = recipe(text, l2=1, optimizer="sgd:lr=0", epochs=2, track=track)
    _, first, second = train(made, split).results["tracked"]
    rise = second["top_K_e/0"] - first["top_K_e/0"]
    assert rise == pytest.approx(
        2 * 49, rel=0.02
    )  # the Hessian has 2 l2 on its diagonal


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "needs --l2, the value that it starts at, got none"),
        ({"l2": 0.1, "steps": 3}, "needs a number of epochs, got --steps 3"),
    ],
)
def test_l2_over_epochs_is_known_without_the_samples(more, said):
    with pytest.raises(ValueError, match=said):
        recipe("l2=constant", **more)


def test_settings_have_one_text_and_one_order():
    one = read_over_epochs(["l2=constant", "batch_size=divide_every_k(k=3)"])
    assert one == ("batch_size=divide_every_k(k=3)", "l2=constant")
    assert read_over_epochs(one) == one
    assert read_over_epochs([]) == ()


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["batch_size"], SettingError, "takes SETTING=SCHEDULE, as batch_size=piece"),
        (["lr=constant"], UnknownNameError, "unknown setting over epochs 'lr': did y"),
        (["rho=constant"], UnknownNameError, "takes a schedule itself, as sam:rho=lin"),
        (["batchsize=constant"], UnknownNameError, "did you mean 'batch_size'?"),
        (["l2=constnt"], UnknownNameError, "unknown schedule of l2 'constnt': did y"),
        (["l2=plateau"], UnknownNameError, "unknown schedule of l2 'plateau'"),
        (["l2=constant", "l2=constant"], SettingError, "gives l2 twice; give it once"),
        (
            ["batch_size=multi_step(64,(2,))"],
            SettingError,
            "starts at batch_size itsel",
        ),
        (
            ["batch_size=linear(end=9,warmup=2)"],
            SettingError,
            "has no warm-up, got war",
        ),
        (["batch_size=linear"], SettingError, "needs end; write linear(end=...)."),
        (
            ["batch_size=multi_step"],
            SettingError,
            "needs milestones; write multi_step(milestones=...).",
        ),
        (["batch_size=8"], UnknownNameError, "unknown schedule of batch_size '8'"),
    ],
)
def test_a_bad_text_is_one_sentence(texts, error, said):
    with pytest.raises(error) as caught:
        read_over_epochs(texts)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        (
            "batch_size=divide_every_k(k=1,divisor=9)",
            {},
            "in epoch 3 must be >= 1, got",
        ),
        (
            "weight_decay=linear(end=-1)",
            {},
            "weight_decay in epoch 2 must be >= 0, got",
        ),
        ("batch_size=linear(end=8)", {"steps": 9}, "linear of batch_size needs steps"),
        ("batch_size=step(shares=(2,))", {}, "over_epochs batch_size=step(shares=(2.0"),
        (GROWING, {"last_batch": "drop", "epoch_size": 15}, "the 15 samples of an epo"),
    ],
)
def test_a_value_out_of_range_shows_before_any_work(text, more, said):
    with pytest.raises(SettingError) as caught:
        check_settings(recipe(text, **more), SAMPLES)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


PLAIN = """
import torch


def rprop(params, *, lr: float = 0.01):
    return torch.optim.Rprop(params, lr=lr)
"""


def test_weight_decay_needs_a_base_that_has_it(tmp_path, monkeypatch):
    with own_files.package(tmp_path, monkeypatch, "plain", bases=PLAIN):
        made = recipe(
            "weight_decay=constant", base="plain.bases:rprop", optimizer="sam"
        )
        with pytest.raises(SettingError, match=r"got plain\.bases:rprop; choose"):
            check_settings(made, SAMPLES)


def test_batch_norm_refuses_a_batch_of_one_in_any_epoch():
    norm = {"model": "small_cnn:width=2,batch_norm=true"}
    check_ready(recipe(GROWING, **norm))
    lonely = "batch_size=piecewise(boundaries=(4,),values=(20,59))"
    with pytest.raises(SettingError, match="batch norm needs 2 samples"):
        check_ready(recipe(lonely, **norm))


def test_schedules_of_the_method_are_as_long_as_the_training():
    made = recipe(GROWING, optimizer="sam:rho=linear(0.4,0.1)")
    model = torch.nn.Linear(1, 1)
    optimizer = build_optimizer(made, model, SAMPLES)
    for step in range(34):

        def closure():
            optimizer.zero_grad()
            loss = model(torch.ones(1)).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        expected = 0.4 - 0.3 * step / 33
        assert optimizer.param_groups[0]["rho"] == pytest.approx(expected)
