"""Checkpoints in a subspace: numpy's least squares, residuals, losses, refusals."""

import copy
import json

import numpy as np
import pytest
import torch

import problems
from steppe.errors import SettingError, UsageError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.abstract import Axis
from steppe.landscapes.subspaces.curve import Curve
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.landscapes.trajectories.arrows import gradient_arrows
from steppe.landscapes.trajectories.projection import project
from steppe.losses import L2
from steppe.parameters import flatten, trainable, unflatten
from steppe.surfaces.files.reference import coordinates_from


def moved(model, vector):
    """A copy of the network at other parameters."""
    network = copy.deepcopy(model)
    own = list(trainable(network).values())
    with torch.no_grad():
        for p, value in zip(own, unflatten(vector, own), strict=True):
            p.copy_(value)
    return network


def plane_of(model, rows):
    """A plane along given directions, of any length and angle."""
    own = trainable(model)
    base = tuple(p.detach().clone() for p in own.values())
    return Plane(
        names=tuple(own),
        base=base,
        directions=tuple(tuple(unflatten(row, base)) for row in rows),
        axes=(Axis(), Axis()),
        buffers={n: b.clone() for n, b in model.named_buffers()},
    )


def draws(model, count, seed=0):
    size = len(problems.flat(model))
    source = problems.generator(seed)
    return torch.randn((count, size), generator=source, dtype=torch.float64)


def test_oblique_directions_of_any_length_give_the_coordinates_back():
    """The projections onto each direction alone, "cos", are other numbers."""
    model = problems.mlp()
    x, other = draws(model, 2)
    y = 0.7 * x + 0.4 * other
    plane = plane_of(model, torch.stack([2 * x, y]))
    there = moved(model, flatten(plane.point(0.5, 0.25)))
    found = project(plane, [there])
    expected = torch.tensor([[0.5, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(found.coordinates, expected, rtol=0, atol=1e-12)
    assert float(found.residual) < 1e-12
    apart = problems.flat(there) - problems.flat(model)
    cos = torch.stack([apart @ (2 * x) / (2 * x).norm(), apart @ y / y.norm()])
    assert float((cos - expected[0]).abs().min()) > 0.1
    gram = torch.tensor(found.details["gram"], dtype=torch.float64)
    torch.testing.assert_close(coordinates_from(cos[None], gram), expected)


def test_checkpoints_off_the_plane_have_the_least_squares_of_numpy():
    model = problems.mlp()
    rows = draws(model, 2)
    plane = plane_of(model, rows)
    start = problems.flat(model)
    points = start + draws(model, 5, seed=7)
    found = project(plane, [moved(model, p) for p in points], name="walk")
    apart = (points - start).numpy()
    best, squares, *_ = np.linalg.lstsq(rows.numpy().T, apart.T, rcond=None)
    np.testing.assert_allclose(found.coordinates, best.T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.residual, squares**0.5, rtol=1e-12)
    shares = squares**0.5 / np.linalg.norm(apart, axis=1)
    np.testing.assert_allclose(found.relative_residual, shares, rtol=1e-12)
    assert found.labels == ("0", "1", "2", "3", "4")
    json.dumps(found.to_dict())


def test_the_base_point_is_at_0_without_a_residual():
    model = problems.cnn()
    found = project(Plane.random(model), [model.state_dict()])
    assert found.coordinates.tolist() == [[0.0, 0.0]]
    assert found.residual.tolist() == found.relative_residual.tolist() == [0.0]


@pytest.mark.parametrize("mode", ["eval", "reestimate", "train"])
def test_losses_are_those_of_the_checkpoints_and_of_the_surface_below(mode):
    model, data = problems.networks()["batch_norm"]
    penalty = L2(1e-2)
    objective = problems.objective(model, data, mode=mode, penalty=penalty)
    plane = Plane.random(model)
    networks = [
        moved(model, problems.flat(model) + 0.1 * d) for d in draws(model, 2, seed=5)
    ]
    networks[1][1].running_mean.fill_(0.5)
    before = problems.state_of(model)
    found = project(plane, networks, objective)
    problems.assert_same(problems.state_of(model), before)
    for i, network in enumerate(networks):
        own = problems.objective(network, data, mode=mode, penalty=penalty).value()
        assert float(found.loss[i]) == pytest.approx(own.value, rel=1e-12)
        assert float(found.stderr[i]) == pytest.approx(own.stderr, rel=1e-10)
        x, y = found.coordinates[i].tolist()
        below = landscape(objective, plane, x=[x], y=[y])
        assert float(found.projected_loss[i]) == float(below.loss)
        assert float(found.projected_stderr[i]) == float(below.stderr)
    assert below.with_path(found).paths == (found,)


def test_a_checkpoint_in_the_plane_has_the_loss_of_the_surface():
    model, data = problems.mlp(), problems.vectors()
    plane = Plane.random(model)
    there = moved(model, flatten(plane.point(0.3, -0.2)))
    found = project(plane, [there], problems.objective(model, data))
    assert float(found.loss) == pytest.approx(float(found.projected_loss), rel=1e-12)


@pytest.mark.parametrize("batch_norm", ["reestimate", "freeze", None])
def test_losses_of_a_path_have_the_statistics_of_the_surface(batch_norm):
    model, data = problems.networks()["batch_norm"]
    networks = [
        moved(model, problems.flat(model) + 0.1 * d) for d in draws(model, 3, seed=5)
    ]
    networks[0][1].running_mean.fill_(0.5)
    plane = Plane.pca(networks)  # goes through all three
    objective = problems.objective(model, data)
    before = problems.state_of(model)
    path = project(plane, networks, objective, batch_norm=batch_norm)
    problems.assert_same(problems.state_of(model), before)
    if batch_norm == "freeze":
        own = [problems.objective(n, data).value().value for n in networks]
        assert path.loss.tolist() == own
        assert path.details["statistics"] == "those of the checkpoint"
    else:
        torch.testing.assert_close(path.loss, path.projected_loss, rtol=1e-9, atol=0)
        assert path.details["statistics"] == "estimated anew at the checkpoint"


def test_an_exception_half_way_leaves_no_trace():
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data)
    other = moved(model, problems.flat(model) + 1)
    other[1].running_mean.fill_(3.0)
    wrong = problems.mlp()
    before = problems.state_of(model)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project(Line.random(model), [other], objective, progress=stop)
    with pytest.raises(SettingError, match="the checkpoint 1 must have the tensors"):
        project(Line.random(model), [other, wrong], objective)
    problems.assert_same(problems.state_of(model), before)


@pytest.mark.parametrize("context", problems.CONTEXTS, ids=problems.CONTEXT_NAMES)
def test_what_stands_around_changes_no_number(context):
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data)
    networks = [
        moved(model, problems.flat(model) + 0.1 * d) for d in draws(model, 3, seed=5)
    ]

    def numbers():
        line = Line.eigen(objective, unit="step", lr=0.1)
        plane = Plane.pca(networks)
        (arrow,) = gradient_arrows(objective, plane, [(0.1, 0.2)])
        path = project(plane, [model], objective)
        values = [*path.columns().values(), path.coordinates, *arrow.vector]
        values += [flatten(d) for d in (*line.directions, *plane.directions)]
        return torch.cat([torch.as_tensor(v).double().flatten() for v in values])

    expected = numbers()
    with context():
        found = numbers()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_widened(dtype):
    model = problems.mlp().to(dtype)
    line = Line.random(model)
    there = moved(model, flatten(line.point(0.5)))
    found = project(line, [there])
    eps = torch.finfo(dtype).eps
    assert float(found.coordinates) == pytest.approx(0.5, abs=4 * eps)
    assert float(found.relative_residual) < 10 * eps


def test_paths_are_labelled_by_their_files(tmp_path):
    model = problems.mlp()
    files = [tmp_path / "epoch-0001.pt", tmp_path / "epoch-0002.pt"]
    for file in files:
        torch.save(model.state_dict(), file)
    assert project(Line.random(model), files).labels == ("epoch-0001", "epoch-0002")
    labels = project(Line.random(model), files, labels=["a", "b"]).labels
    assert labels == ("a", "b")


def test_what_has_no_coordinates_is_refused():
    model = problems.mlp()
    x, _ = draws(model, 2)
    with pytest.raises(UsageError, match="are dependent"):
        project(plane_of(model, torch.stack([x, -3 * x])), [model])
    with pytest.raises(UsageError, match="must have lengths > 0"):
        project(plane_of(model, torch.stack([x, 0 * x])), [model])
    with pytest.raises(SettingError, match=r"onto a steppe\.Line, Plane or Box"):
        project(model, [model])
    with pytest.raises(SettingError, match="at least 1 checkpoints, got 0"):
        project(Line.random(model), [])
    with pytest.raises(SettingError, match="labels must be one text"):
        project(Line.random(model), [model], labels=["a", "b"])
    curve = Curve.bezier(model, problems.mlp(seed=1))
    with pytest.raises(SettingError, match="a Curve, which is curved"):
        project(curve, [model])
    other = problems.objective(problems.linear(), problems.vectors())
    with pytest.raises(SettingError, match="must have the same parameters"):
        project(Line.random(model), [model], other)
