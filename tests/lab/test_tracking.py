"""Following eigenvalues along training: what is found, and that it changes nothing."""

from __future__ import annotations

import csv
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from spectra import dense_hessian
from spectra import recipe as small
from steppe.errors import SettingError
from steppe_lab.cli import main
from steppe_lab.datasets.loading import load_split
from steppe_lab.runs.abstract import config_of
from steppe_lab.training.build import build_model
from steppe_lab.training.failures import TrainingFailedError
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_settings
from steppe_lab.training.tensorboard import EventWriter
from steppe_lab.training.tracking import TRACKERS, Followed, interval
from steppe_lab.training.trained_loss import TrainedLoss
from steppe_lab.work import work


def recipe(optimizer="sgd:lr=0.05", track="spectrum:k=2", **more):
    methods = read_optimizer(optimizer, "sgd:lr=0.05", track=track)
    return small(**{"epochs": 2, "batch_size": 20, **methods, **more})


@pytest.fixture(scope="module")
def split():
    return load_split(recipe())


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def rows_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_following_changes_no_bit_of_the_training(split, tmp_path):
    more = {"model": "mlp:hidden=2,depth=1,batch_norm=true"}
    track = "spectrum:k=2,samples=30,every=2steps,drawn=anew,steps=true"
    followed = train(recipe("sam:rho=0.1", track, **more), split, folder=tmp_path)
    alone = train(recipe("sam:rho=0.1", track="", **more), split)
    kept, expected = followed.model.state_dict(), alone.model.state_dict()
    assert "2.running_mean" in kept
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    assert followed.history == alone.history
    assert followed.gradients == alone.gradients
    assert "tracked" not in alone.results


def test_eigenvalues_are_those_of_the_dense_hessian_at_the_end(split, tmp_path):
    trained = train(recipe(track="spectrum:k=3,tol=0.001"), split, folder=tmp_path)
    expected = torch.linalg.eigvalsh(
        dense_hessian(trained.model, split.train.inputs, split.train.targets)
    )
    with np.load(tmp_path / "track" / "lanczos.npz") as kept:
        assert kept["top_K_e"].shape == (3, 3)
        assert kept["epoch"].tolist() == [0, 1, 2]
        assert kept["top_K_e"][-1] == pytest.approx(expected.flip(0)[:3], rel=1e-4)


def test_a_row_holds_the_scores_of_its_epoch_and_the_gradients_of_its_steps(
    split, tmp_path
):
    trained = train(recipe(), split, folder=tmp_path)
    first, *others = rows_of(tmp_path / "track")
    assert first["test_error"] == first["alig/0_mean"] == ""
    for row, epoch in zip(others, trained.history, strict=True):
        assert float(row["test_error"]) == epoch["test_error"]
        assert float(row["epoch"]) == epoch["epoch"]
        assert -1 <= float(row["alig/0_mean"]) <= 1
        assert float(row["alig/0_abs_mean"]) > 0


@pytest.mark.parametrize(
    ("every", "steps"), [("2epochs", [0, 6]), ("2steps", [0, 2, 4, 6])]
)
def test_rows_come_as_often_as_asked(split, tmp_path, every, steps):
    track = f"spectrum:k=1,samples=30,every={every}"
    trained = train(recipe(track=track), split, folder=tmp_path)
    assert [row["step"] for row in trained.results["tracked"]] == steps


@pytest.mark.parametrize(
    ("optimizer", "track"),
    [
        ("nsgd:gamma=0.5,k=2", ""),
        pytest.param(
            *("sgd:lr=0.05", "spectrum:k=2,samples=30,drawn=anew,steps=true"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("sam:rho=0.1+ema", "spectrum:k=2,every=4steps"), marks=pytest.mark.slow
        ),
    ],
)
def test_resuming_equals_never_stopping_in_weights_and_files(
    split, tmp_path, optimizer, track
):
    made, states = recipe(optimizer, track, epochs=3), []
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    once = train(made, split, folder=whole, keep=states.append, keep_every=0)
    again = train(made, split, folder=resumed, resume=states[0])
    assert len(states) == 2
    whole, resumed = whole / "track", resumed / "track"
    assert torch.equal(weights(once), weights(again))
    assert rows_of(whole) == rows_of(resumed)
    with np.load(whole / "lanczos.npz") as a, np.load(resumed / "lanczos.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_samples_drawn_anew_are_others_each_time(split, tmp_path):
    def eigenvalues(drawn):
        track = f"spectrum:k=1,samples=20,drawn={drawn}"
        made = recipe("sgd:lr=0", track)  # the network stays as it is
        return [
            row["SN"] for row in train(made, split, folder=tmp_path).results["tracked"]
        ]

    once, anew = eigenvalues("once"), eigenvalues("anew")
    assert once == pytest.approx([once[0]] * 3, rel=1e-3)
    assert abs(anew[1] / anew[0] - 1) > 0.01
    assert abs(anew[2] / anew[1] - 1) > 0.01


def test_nsgd_does_not_step_along_the_directions_that_were_found(split, tmp_path):
    made = recipe("nsgd:gamma=0", "spectrum:k=3,vectors=true", epochs=1)
    start = build_model(made, split.in_shape, len(split.classes))
    before = torch.cat([p.detach().flatten() for p in start.parameters()])
    step = weights(train(made, split, folder=tmp_path)) - before
    with np.load(tmp_path / "track" / "top_K_ev_0.npz") as kept:
        along = step @ torch.from_numpy(kept["Ev"])
    assert step.norm() > 1e-3
    assert along.norm() < 1e-5 * step.norm()
    plain = weights(train(recipe(track="", epochs=1), split)) - before
    with np.load(tmp_path / "track" / "top_K_ev_0.npz") as kept:
        assert (plain @ torch.from_numpy(kept["Ev"])).norm() > 0.05 * plain.norm()


def test_nsgd_with_factor_one_is_its_base(split):
    led = train(recipe("nsgd:gamma=1,k=2", ""), split)
    assert torch.equal(weights(led), weights(train(recipe(track=""), split)))
    assert len(led.results["tracked"]) == 3


def test_gradients_of_nsgd_are_counted_with_its_products(split):
    led = train(recipe("nsgd:k=1", "spectrum:samples=30"), split)
    products = sum(row["products"] for row in led.results["tracked"])
    in_batches_of_20 = 2 * products * 30 / 20
    assert led.gradients == pytest.approx(1 + in_batches_of_20 / 6)


def test_a_spectrum_that_does_not_exist_is_a_training_that_failed(split):
    made = recipe("sgd:lr=1e30", "spectrum:k=1,every=1step", epochs=4)
    with pytest.raises(
        TrainingFailedError,
        match=r"could not be followed in epoch \d \(.*NaN\); lower the learning rate",
    ):
        train(made, split)


@pytest.mark.parametrize(("every", "unit"), [("3steps", "step"), ("1epoch", "epoch")])
def test_the_picture_goes_by_what_was_asked_for(tmp_path, monkeypatch, every, unit):
    drawn = []
    monkeypatch.setattr(
        "steppe.plots.eigenvalues",
        lambda places, values, xlabel: drawn.append((places, xlabel)) or Figure(),
    )
    made = recipe(track=f"spectrum:k=1,samples=30,every={every}", epochs=1)
    work(config_of(made), tmp_path, lambda *_: None)
    assert drawn == [([0, 3] if unit == "step" else [0, 1], unit)]


def test_the_directions_of_nsgd_are_told_once():
    read = read_optimizer("nsgd:gamma=0.2,k=7+ema", "sgd")
    assert read["optimizer"].settings["gamma"] == 0.2
    assert read["track"].settings["k"] == 7
    read = read_optimizer("nsgd:k=7", "sgd", track="spectrum:samples=10")
    assert (read["track"].settings["k"], read["track"].settings["samples"]) == (7, 10)
    assert read_optimizer("nsgd", "sgd")["track"].settings["k"] == 5
    assert read_optimizer("sam", "sgd")["track"] is None
    with pytest.raises(SettingError, match="nsgd has k=7 and the tracker k=5; give"):
        read_optimizer("nsgd:k=7", "sgd", track="spectrum:k=5")


def test_a_recipe_without_a_tracker_is_the_record_it_was():
    assert "track" not in recipe(track="").model_dump(mode="json")
    made = recipe()
    record = made.model_dump(mode="json")
    assert record["track"]["settings"]["every"] == "1epoch"
    assert type(made).model_validate(record) == made


@pytest.mark.parametrize("text", ["0epochs", "epoch", "1.5epochs", "3 days", "-1steps"])
def test_how_often_is_a_number_of_epochs_or_steps(text):
    with pytest.raises(SettingError, match=rf"as 1epoch or 100steps, got '{text}'"):
        interval(text)


def test_memory_changes_the_work_and_no_number(split, tmp_path):
    rows = []
    for memory in (0.0, 1.5):
        made = recipe(track=f"spectrum:k=2,memory={memory}")
        check_settings(
            made,
        )
        model = build_model(made, split.in_shape, 10)
        loss = partial(TrainedLoss.of, made, split.task)
        followed = Followed(
            model=model,
            split=split,
            loss=loss,
            seed=0,
            folder=tmp_path,
            lr=lambda: 0.05,
            batch_size=20,
        )
        tracker = TRACKERS.build(made.track, followed)
        measured = tracker._measurement
        assert measured.matrix(measured.present()).budget == memory * 2**30
        rows.append(tracker.measure().values.tolist())
    assert rows[0] == pytest.approx(rows[1], rel=1e-5)
    with pytest.raises(SettingError, match="memory must be >= 0, got -1"):
        check_settings(recipe(track="spectrum:memory=-1"))


def numbers_for_tensorboard(folder, tag):
    """What TensorBoard shows under a name: steps and values."""
    shown = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    return [(event.step, event.value) for event in shown.Reload().Scalars(tag)]


def test_every_number_goes_to_tensorboard_where_it_is_asked_for(split, tmp_path):
    made = recipe(track="spectrum:k=1,tensorboard=true")
    check_settings(
        made,
    )
    trained = train(made, split, folder=tmp_path)
    steps, values = zip(*numbers_for_tensorboard(tmp_path / "track", "SN"), strict=True)
    assert list(steps) == [row["step"] for row in trained.results["tracked"]]
    assert list(values) == pytest.approx(
        [row["SN"] for row in trained.results["tracked"]]
    )


def test_tensorboard_forgets_what_a_stopped_run_wrote_too_far(tmp_path):
    for steps in ((0, 4, 8, 12), (8, 12, 16)):
        writer = EventWriter(tmp_path)
        for step in steps:
            writer.add_scalar("SN", step + len(steps), step)
    expected = [(0, 4.0), (4, 8.0), (8, 11.0), (12, 15.0), (16, 19.0)]
    assert numbers_for_tensorboard(tmp_path, "SN") == expected


def test_without_tensorboard_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingError, match=r"pip install '\.\[tensorboard\]' in a cl"):
        check_settings(recipe(track="spectrum:tensorboard=true"))
    with pytest.raises(SettingError, match=r"history\.csv holds the same numbers"):
        check_settings(recipe(tensorboard=True))


@pytest.mark.slow
def test_the_command_keeps_files_and_a_picture_beside_the_checkpoint(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    tiny = ["--epochs", "1", "--train-samples", "40", "--model", "mlp:hidden=2,depth=1"]
    command = ["train", "--optimizer", "nsgd:gamma=0.1,k=2", *tiny]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    folder = Path(found["checkpoint"]).parent / "track"
    names = {path.name for path in folder.iterdir()}
    assert names == {"history.csv", "lanczos.npz", "eigenvalues.png"}
    assert found["tracked"]["measurements"] == 2
    last = [float(rows_of(folder)[-1][f"top_K_e/{i}"]) for i in range(2)]
    assert found["tracked"]["eigenvalues"] == last
    assert main(command) == 0
    assert f"Eigenvalues: {folder}" in capsys.readouterr().out
