"""Cuts along the sharpest directions: a direct computation, files, and resuming."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import problems
from steppe.errors import DataError, SettingError
from steppe.objective import Objective
from steppe.tracking.cuts import COORDINATES, Cuts, read_cuts
from steppe.tracking.tracker import SpectrumTracker

LR = 0.3


def problem():
    """A network, its data, and ten fixed batches of four."""
    model, data = problems.mlp(), problems.vectors(40)
    objective = problems.objective(model, data, 16)
    return model, data, objective, problems.objective(model, data, 4)


def direct(model, data, index):
    """Scale and losses along an eigenvector, without any of steppe's algorithms."""
    x, y = data
    vectors = torch.linalg.eigh(problems.dense_hessian(model, data))[1]
    v = vectors[:, -1 - index]
    v = v * v[v.abs().argmax()].sign()
    params = list(model.parameters())
    parts = []
    for i in range(0, 40, 4):
        loss = F.cross_entropy(model(x[i : i + 4]), y[i : i + 4])
        g = torch.cat([g.flatten() for g in torch.autograd.grad(loss, params)])
        parts.append(LR * abs(float(g @ v)))
    scale = sum(parts) / len(parts)
    loss = problems.loss_of(model, data)
    at = problems.flat(model)
    return scale, [float(loss(at + c * scale * v)) for c in COORDINATES]


def test_the_coordinates_are_those_of_the_published_code():
    positive = [0.25, 0.5, 1, 2, 4, 8, 16]
    assert list(COORDINATES) == [*(-c for c in reversed(positive)), 0, *positive]


@pytest.mark.slow
def test_cuts_are_those_of_a_direct_computation_on_ten_batches(tmp_path):
    model, data, objective, small = problem()
    cuts = Cuts(lr=lambda: LR, minibatches=small)
    tracker = SpectrumTracker(objective, k=2, tol=1e-9, cuts=cuts, folder=tmp_path)
    before = problems.state_of(model)
    expected = [direct(model, data, index) for index in (0, 1)]
    tracker.measure()
    problems.assert_same(problems.state_of(model), before)
    with np.load(tmp_path / "loss_surfaces.npz") as kept:
        assert kept["eps"].tolist() == list(COORDINATES)
        for index, (scale, losses) in enumerate(expected):
            assert kept[f"scale_{index}"] == pytest.approx([scale], rel=1e-8)
            curve = kept[f"loss_curve_{index}"]
            np.testing.assert_allclose(curve, [losses], rtol=1e-7)
            assert tracker.rows[0][f"scale_{index}"] == kept[f"scale_{index}"][0]


def trained(folder, stop=None, state=None):
    """Six steps with a measurement after every second one."""
    model, data, objective, small = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    cuts = Cuts(lr=lambda: optimizer.param_groups[0]["lr"], minibatches=small)
    settings = {"every": 2, "unit": "step", "cuts": cuts, "folder": folder}
    tracker = SpectrumTracker(objective, k=2, **settings)
    start = 0
    if state is None:
        tracker.measure()
    else:
        saved = torch.load(io.BytesIO(state), weights_only=True)
        model.load_state_dict(saved["model"])
        tracker.load_state_dict(saved["tracker"])
        start = tracker.state_dict()["step"]
    for step in range(start, 6):
        if step == stop:
            buffer = io.BytesIO()
            kept = {"model": model.state_dict(), "tracker": tracker.state_dict()}
            torch.save(copy.deepcopy(kept), buffer)
            return buffer.getvalue()
        optimizer.zero_grad()
        F.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
        tracker.after_step()
    return (folder / "loss_surfaces.npz").read_bytes()


@pytest.mark.slow
def test_resuming_gives_the_bits_of_never_stopping(tmp_path):
    whole = trained(tmp_path / "whole")
    state = trained(tmp_path / "stopped", stop=3)
    assert trained(tmp_path / "stopped", state=state) == whole


@pytest.mark.slow
def test_cuts_are_read_as_lines(tmp_path):
    trained(tmp_path)
    read = read_cuts(tmp_path)
    assert sorted(read) == [0, 1]
    assert [line.details["step"] for line in read[0]] == [0, 2, 4, 6]
    line = read[1][2]
    assert line.x == COORDINATES
    assert line.samples == 40
    assert line.axes == ("steps of SGD along eigenvector 2",)
    assert line.details["scale"] > 0
    with np.load(tmp_path / "loss_surfaces.npz") as kept:
        assert line.loss.tolist() == kept["loss_curve_1"][2].tolist()
        assert line.rise_stderr[7] == 0  # at the network itself
    (tmp_path / "loss_surfaces.npz").write_bytes(b"something else")
    with pytest.raises(DataError, match="cannot be read as cuts"):
        read_cuts(tmp_path)


@pytest.mark.parametrize(("unit", "length"), [("absolute", 1.0), (0.25, 0.25)])
def test_other_units_need_no_gradients(unit, length):
    _, _, objective, _ = problem()
    cuts = Cuts(unit=unit, coordinates=[-1.0, 0.0, 1.0], indices=[1])
    tracker = SpectrumTracker(objective, k=2, cuts=cuts)
    tracker.measure()
    assert tracker.rows[0]["scale_1"] == length
    assert "scale_0" not in tracker.rows[0]


def test_a_step_without_a_length_is_nan_and_the_training_goes_on():
    model, _, objective, _ = problem()
    zeros = torch.zeros(1, problems.INPUTS, dtype=torch.float64)
    flat = Objective(model, [zeros], loss=lambda model, x: 0 * model(x)[:, 0])
    tracker = SpectrumTracker(objective, k=1, cuts=Cuts(lr=LR, minibatches=flat))
    tracker.measure()
    assert tracker.rows[0]["scale_0"] == 0
    assert math.isnan(float(tracker.state_dict()["cuts"][0][0]["loss"][0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "lr must be given with unit='step'"),
        ({"lr": -1.0}, "lr must be > 0"),
        ({"unit": "absolute", "lr": 0.1}, "lr must be given with unit='step'"),
        ({"lr": 0.1, "coordinates": []}, "at least one coordinate"),
        ({"lr": 0.1, "indices": [2]}, "indices of cuts must be from 0 to 1 with k=2"),
        ({"lr": 0.1, "count": 0}, "count must be >= 1"),
    ],
)
def test_settings_are_refused_before_the_training(settings, message):
    _, _, objective, _ = problem()
    with pytest.raises(SettingError, match=message):
        SpectrumTracker(objective, k=2, cuts=Cuts(**settings))


def test_three_coordinates_are_coordinates_also_where_they_look_like_a_range():
    _, _, objective, small = problem()
    cuts = Cuts(lr=LR, minibatches=small, coordinates=[0.0, 1.0, 2.0])
    tracker = SpectrumTracker(objective, k=1, cuts=cuts)
    tracker.measure()
    assert tracker.state_dict()["cuts"][0][0]["loss"].shape == (3,)


def test_all_samples_are_evaluated(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    data = torch.randn(5500, 3), torch.randint(0, 2, (5500,))
    objective = Objective(model, data)
    cuts = Cuts(unit="absolute", coordinates=[-1.0, 1.0])
    tracker = SpectrumTracker(objective, k=1, cuts=cuts, folder=tmp_path)
    pairs = tracker.measure()
    vector = pairs.vectors[:, 0].double()
    vector = vector * vector[vector.abs().argmax()].sign()
    end = problems.flat(model).double() + vector / vector.norm()
    expected = float(problems.loss_of(model, data)(end.float()))
    line = read_cuts(tmp_path)[0][0]
    assert line.samples == 5500
    assert float(line.loss[1]) == pytest.approx(expected, rel=1e-5)


def test_rows_from_before_the_first_cut_have_none(tmp_path):
    _, _, objective, _ = problem()
    before = SpectrumTracker(objective, k=1, folder=tmp_path)
    before.measure()
    cuts = Cuts(unit="absolute", coordinates=[-1.0, 0.0, 1.5])
    tracker = SpectrumTracker(objective, k=1, cuts=cuts, folder=tmp_path)
    tracker.load_state_dict(before.state_dict())
    tracker.measure()
    assert len(tracker.rows) == 2
    assert len(read_cuts(tmp_path)[0]) == 1


def test_minibatches_of_another_network_are_refused():
    _, _, objective, _ = problem()
    other = problem()[3]
    tracker = SpectrumTracker(objective, k=1, cuts=Cuts(lr=LR, minibatches=other))
    with pytest.raises(SettingError, match="of the same model"):
        tracker.measure()
