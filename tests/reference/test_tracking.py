"""The spectrum along training: rows, files, resuming, against dense algebra."""

import csv
import json
import math
import os

import numpy as np
import pytest
import torch

import problems
import steppe
from steppe.errors import SettingError, UsageError


def training(seed=0, **settings):
    """A network, its optimizer, and a tracker of three eigenvalues."""
    model = problems.mlp(seed=seed).double()
    inputs, targets = problems.vectors(n=40)
    data = (inputs.double(), targets)
    objective = steppe.Objective(model, data, batch_size=16)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"k": 3, "tol": 1e-6, **settings}
    return model, data, opt, steppe.SpectrumTracker(objective, **settings)


def steps(model, data, opt, tracker, count, first=0):
    """Gradients and displacements of `count` steps on batches of eight rows."""
    gradients, moves = [], []
    for number in range(first, first + count):
        rows = torch.arange(8) + 8 * (number % 5)
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(data[0][rows]), data[1][rows])
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        before = problems.flat(model)
        tracker.observe()
        opt.step()
        moves.append(problems.flat(model) - before)
        tracker.after_step()
    return gradients, moves


@pytest.mark.slow
def test_eigenvalues_are_those_of_the_dense_hessian_at_every_row():
    model, data, opt, tracker = training()
    for _ in range(3):
        tracker.measure()
        values, vectors = torch.linalg.eigh(problems.dense_hessian(model, data))
        found = [tracker.rows[-1][f"top_K_e/{i}"] for i in range(3)]
        assert found == pytest.approx(values.flip(0)[:3].tolist(), rel=1e-8)
        assert tracker.rows[-1]["SN"] == found[0]
        cosine = float((vectors[:, -1] @ tracker.directions()[:, 0]).abs())
        assert cosine == pytest.approx(1, abs=1e-6)
        steps(model, data, opt, tracker, 4)
    assert tracker.products == sum(row["products"] for row in tracker.rows)


def test_statistics_are_those_of_the_gradients_and_steps_between_two_rows():
    model, data, opt, tracker = training(steps=True)
    tracker.measure()
    basis, gradient = tracker.directions().clone(), full_gradient(model, data)
    start = [p.detach().clone() for p in model.parameters()]
    gradients, moves = steps(model, data, opt, tracker, 6)
    tracker.measure(loss=0.25)
    row = tracker.rows[-1]
    cosines = torch.stack([basis.T @ g / g.norm() for g in gradients])
    for i in range(3):
        column = cosines[:, i]
        assert row[f"alig/{i}_mean"] == pytest.approx(float(column.mean()), abs=1e-12)
        expected = float(column.abs().mean())
        assert row[f"alig/{i}_abs_mean"] == pytest.approx(expected, rel=1e-10)
        expected = float(column.std(correction=0))
        assert row[f"alig/{i}_std"] == pytest.approx(expected, rel=1e-9)
    full = [float(g @ gradient / g.norm() / gradient.norm()) for g in gradients]
    assert row["alig/fbg_mean"] == pytest.approx(sum(full) / 6, rel=1e-9)
    for name, drawn in (("alex_alpha", gradients), ("alex_v", moves)):
        sums = [float((basis.T @ x).abs().sum()) for x in drawn]
        shares = [s / float(x.norm()) for s, x in zip(sums, drawn, strict=True)]
        assert row[f"{name}_sum"] == pytest.approx(sum(sums) / 6, rel=1e-9)
        assert row[f"{name}_norm_sum"] == pytest.approx(sum(shares) / 6, rel=1e-9)
    named = zip(model.named_parameters(), start, strict=True)
    moved = {f"dist/{n}": float((p.detach() - w).norm()) for (n, p), w in named}
    for name, distance in moved.items():
        assert row[name] == pytest.approx(distance, rel=1e-12)
    assert row["dist/all"] == pytest.approx(sum(moved.values()), rel=1e-12)
    assert row["loss"] == 0.25
    now = full_gradient(model, data)
    assert row["grad_norm"] == pytest.approx(float(now.norm()), rel=1e-12)
    cosine = float(tracker.directions()[:, 1] @ now / now.norm())
    assert row["alig/fbg_e1"] == pytest.approx(cosine, abs=1e-12)


def full_gradient(model, data):
    loss = problems.loss_of(model, data)
    return torch.autograd.functional.jacobian(loss, problems.flat(model))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"unit": "step", "every": 4}, [4, 8, 12]), ({"every": 2}, [10])],
)
def test_rows_are_written_when_they_are_due(settings, expected):
    model, data, opt, tracker = training(**settings)
    for epoch in range(3):
        steps(model, data, opt, tracker, 5)
        tracker.after_epoch(epoch_loss=float(epoch))
    assert [row["step"] for row in tracker.rows][: len(expected)] == expected


def test_files_hold_the_rows(tmp_path):
    model, data, opt, tracker = training(folder=tmp_path / "run", save_vectors=True)
    tracker.measure()
    steps(model, data, opt, tracker, 5)
    tracker.after_epoch(loss=0.5)
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2
    assert table[0]["loss"] == ""
    for text, row in zip(table, tracker.rows, strict=True):
        assert {name: float(text[name]) for name in row} == row
    with np.load(tmp_path / "run" / "lanczos.npz") as kept:
        assert kept["top_K_e"].shape == (2, 3)
        np.testing.assert_array_equal(kept["top_K_e"][1], tracker.pairs.values.numpy())
        assert kept["step"].tolist() == [0, 5]
    with np.load(tmp_path / "run" / "top_K_ev_5.npz") as kept:
        np.testing.assert_array_equal(kept["Ev"], tracker.directions().numpy())
        assert kept["names"].tolist() == [n for n, _ in model.named_parameters()]
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(".")]


def test_a_failed_write_leaves_the_version_before(tmp_path, monkeypatch):
    _model, _data, _opt, tracker = training(folder=tmp_path)
    tracker.measure()
    before = (tmp_path / "history.csv").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tracker.measure()
    assert (tmp_path / "history.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["history.csv", "lanczos.npz"]


@pytest.mark.parametrize("cut", [3, 5, 7])
def test_resuming_equals_never_stopping(cut, tmp_path):
    settings = {"unit": "step", "every": 5, "steps": True}
    model, data, opt, whole = training(**settings)
    whole.measure()
    steps(model, data, opt, whole, 10)
    model, data, opt, first = training(**settings)
    first.measure()
    steps(model, data, opt, first, cut)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    fresh, _, later, second = training(seed=5, **settings)
    fresh.load_state_dict(model.state_dict())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    steps(fresh, data, later, second, 10 - cut, first=cut)
    assert second.rows == whole.rows
    assert torch.equal(second.directions(), whole.directions())


def test_samples_can_be_chosen_anew_for_each_measurement():
    model, data, _opt, _ = training()
    made = []

    def fresh():
        rows = torch.arange(10) + 10 * len(made)
        made.append(steppe.Objective(model, (data[0][rows], data[1][rows])))
        return made[-1]

    tracker = steppe.SpectrumTracker(fresh, k=1, tol=1e-6)
    for number in range(2):
        tracker.measure()
        rows = torch.arange(10) + 10 * number
        dense = problems.dense_hessian(model, (data[0][rows], data[1][rows]))
        expected = float(torch.linalg.eigvalsh(dense)[-1])
        assert tracker.rows[-1]["SN"] == pytest.approx(expected, rel=1e-8)
    assert len(made) == 2


def test_nothing_changed_costs_a_few_products_only():
    _, _, _, tracker = training(tol=1e-3)
    tracker.measure()
    tracker.measure()
    # A matrix as small as this one is looked at for copies with ten more.
    assert 22 <= tracker.rows[1]["products"] <= 24
    assert tracker.rows[1]["overlap"] == pytest.approx(1, abs=1e-5)


def test_nsgd_takes_its_directions_from_the_tracker():
    model, data, _, tracker = training()
    opt = steppe.NSGD(
        torch.optim.SGD(model.parameters(), lr=0.1),
        gamma=0.0,
        directions=tracker.directions,
    )
    tracker.measure()
    before, basis = problems.flat(model), tracker.directions().clone()
    for _ in opt.passes():
        torch.nn.functional.cross_entropy(model(data[0]), data[1]).backward()
    opt.step()
    moved = problems.flat(model) - before
    gradient = full_gradient_at(model, data, before)
    inside = basis @ (basis.T @ gradient)
    torch.testing.assert_close(moved, -0.1 * (gradient - inside), rtol=0, atol=1e-12)


def full_gradient_at(model, data, point):
    return torch.autograd.functional.jacobian(problems.loss_of(model, data), point)


def test_scalars_go_to_a_writer_too():
    class Written(dict):
        def add_scalar(self, tag, value, step):
            self[tag, step] = value

    written = Written()
    model, data, opt, tracker = training(writer=written)
    steps(model, data, opt, tracker, 2)
    tracker.measure(loss=0.5)
    assert written["loss", 2] == 0.5
    assert written["SN", 2] == tracker.rows[0]["SN"]


def test_parts_of_a_step_change_the_loss_as_the_points_they_lead_to(tmp_path):
    model, data, opt, tracker = training(folder=tmp_path)
    tracker.measure()
    gradients, _ = steps(model, data, opt, tracker, 2)
    tracker.measure()
    at, loss = problems.flat(model), problems.loss_of(model, data)
    factors = (0.5, 2.0)
    found = tracker.decompose(torch.stack(gradients), 0.1, factors=factors)
    unit = tracker.directions()[:, 1]
    for place, factor in enumerate(factors):
        points = [at - factor * 0.1 * (g @ unit) * unit for g in gradients]
        change = sum(float(loss(p)) for p in points) / 2 - float(loss(at))
        assert found["changes"]["1"][place] == pytest.approx(change, abs=1e-13)
        points = [at - factor * 0.1 * g for g in gradients]
        change = sum(float(loss(p)) for p in points) / 2 - float(loss(at))
        assert found["changes"]["step"][place] == pytest.approx(change, abs=1e-13)
    assert set(found["changes"]) == {"0", "1", "2", "random", "step"}
    assert torch.equal(problems.flat(model), at)
    assert json.loads((tmp_path / "decompose_2.json").read_text()) == found


def test_mistakes_are_one_sentence():
    model, data, _, tracker = training()
    with pytest.raises(UsageError, match="call measure"):
        tracker.decompose(torch.ones(1, 3), 0.1)
    tracker.measure()
    with pytest.raises(SettingError, match="gradients must have the shape"):
        tracker.decompose(torch.ones(1, 3), 0.1)
    other = steppe.Objective(problems.linear().double(), data)
    moving = steppe.SpectrumTracker(lambda: chosen[0], k=1)
    chosen = [steppe.Objective(model, data)]
    moving.measure()
    chosen[0] = other
    with pytest.raises(UsageError, match="other parameters"):
        moving.measure()


def test_data_spread_over_processes_is_refused():
    class Spread(steppe.Hessian):
        def __init__(self, objective):
            super().__init__(objective)
            self.ranks = type("ProcessGroup", (), {"spread": True})()

    _, _, _, tracker = training(matrix=Spread)
    with pytest.raises(UsageError, match="of one process"):
        tracker.measure()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 0}, "k must be >= 1"),
        ({"every": 0}, "every must be >= 1"),
        ({"unit": "batch"}, "unit must be"),
        ({"tol": math.nan}, "tol must be > 0"),
    ],
)
def test_settings_out_of_range_are_one_sentence(settings, said):
    with pytest.raises(SettingError, match=said):
        training(**settings)
