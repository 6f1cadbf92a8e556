"""Gradients and steps on a subspace: closed forms, differences, and what is outside."""

import copy
import math

import pytest
import torch

import problems
from steppe.comparisons.barriers import barriers
from steppe.errors import SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.abstract import Axis
from steppe.landscapes.subspaces.curve import Curve
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.landscapes.trajectories.arrows import arrow, gradient_arrows
from steppe.landscapes.trajectories.projection import project
from steppe.objective import Objective
from steppe.parameters import flatten, trainable, unflatten

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)


def plane_of(model, rows):
    own = trainable(model)
    base = tuple(p.detach().clone() for p in own.values())
    directions = tuple(tuple(unflatten(row, base)) for row in rows)
    axes = (Axis(),) * len(rows)
    return Plane(names=tuple(own), base=base, directions=directions, axes=axes)


def bowl():
    model = problems.Quadratic(A, START)
    zeros = torch.zeros(3, 5, dtype=torch.float64)
    objective = Objective(model, [zeros[:2], zeros[2:]], loss=lambda m, z: m(z))
    rows = torch.randn((2, 5), generator=problems.generator(), dtype=torch.float64)
    return objective, plane_of(model, rows), rows


def test_the_gradient_of_a_bowl_is_projected_by_least_squares():
    objective, plane, rows = bowl()
    points = [(0.0, 0.0), (0.5, -2.0)]
    for point, found in zip(
        points, gradient_arrows(objective, plane, points, lr=0.1), strict=True
    ):
        gradient = A @ (START + torch.tensor(point, dtype=torch.float64) @ rows)
        step = -0.1 * gradient
        best = torch.linalg.lstsq(rows.T, step[:, None]).solution[:, 0]
        assert found.start == point
        assert found.vector == pytest.approx(best.tolist(), rel=1e-10)
        outside = (step - best @ rows).norm() / step.norm()
        assert found.outside == pytest.approx(float(outside), rel=1e-10)
        assert found.norm == pytest.approx(float(step.norm()), rel=1e-12)
        # Within: the Gram matrix takes it to the slope of the surface.
        slopes = rows @ rows.T @ torch.tensor(found.vector, dtype=torch.float64)
        torch.testing.assert_close(slopes, -0.1 * rows @ gradient)


@pytest.mark.parametrize("name", ["tanh", "batch_norm", "tied"])
def test_an_arrow_is_the_slope_of_the_surface_where_the_plane_is_orthonormal(name):
    model, data = problems.networks()[name]
    objective = problems.objective(model, data)
    size = len(problems.flat(model))
    drawn = torch.randn((size, 2), generator=problems.generator(2), dtype=torch.float64)
    plane = plane_of(model, torch.linalg.qr(drawn)[0].T)
    before = problems.state_of(model)
    (found,) = gradient_arrows(objective, plane, [(0.3, -0.1)])
    problems.assert_same(problems.state_of(model), before)
    h = 1e-4
    x = landscape(objective, plane, x=[0.3 - h, 0.3 + h], y=[-0.1]).loss.flatten()
    y = landscape(objective, plane, x=[0.3], y=[-0.1 - h, -0.1 + h]).loss.flatten()
    slopes = [float(a[1] - a[0]) / (2 * h) for a in (x, y)]
    assert [-v for v in found.vector] == pytest.approx(slopes, rel=1e-5, abs=1e-8)
    assert 0 < found.outside < 1


def test_a_step_of_an_optimizer_is_an_arrow_that_figures_draw():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data)
    plane = Plane.random(model)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(model(data[0]), data[1]).backward()
    optimizer.step()
    moved = {
        name: p.detach() - old
        for (name, p), old in zip(model.named_parameters(), before, strict=True)
    }
    found = arrow(plane, moved, name="Adam")
    assert found.norm == pytest.approx(
        float(flatten(list(moved.values())).norm()), rel=1e-12
    )
    assert found == arrow(plane, list(moved.values()), at=(0, 0), name="Adam")
    surface = landscape(objective, plane, x=[0.0, 1.0], y=[0.0, 1.0])
    assert surface.with_arrow(found).arrows == (found,)


def test_a_displacement_within_has_nothing_outside_and_none_has_no_share():
    model = problems.mlp()
    plane = Plane.random(model)
    within = arrow(plane, [2 * d for d in plane.directions[1]], at=(1.0, 0.5))
    assert within.end == pytest.approx((1.0, 2.5), abs=1e-12)
    assert within.outside < 1e-12
    nothing = arrow(plane, [0 * d for d in plane.directions[1]])
    assert nothing.vector == (0.0, 0.0)
    assert math.isnan(nothing.outside)


def test_an_exception_half_way_leaves_no_trace():
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data)
    before = problems.state_of(model)

    def stop(_):
        raise KeyboardInterrupt

    points = [(0.1, 0.2)]
    with pytest.raises(KeyboardInterrupt):
        gradient_arrows(objective, Plane.random(model), points, batch_norm=stop)
    problems.assert_same(problems.state_of(model), before)


def test_other_shapes_are_refused():
    model = problems.mlp()
    line = Line.random(model)
    with pytest.raises(SettingError, match="must have 6 tensors"):
        arrow(line, list(model.parameters())[:2])
    with pytest.raises(SettingError, match="the displacement must have the tensors"):
        arrow(line, {"0.weight": torch.zeros(3)})
    with pytest.raises(SettingError, match="must have 1 coordinates"):
        arrow(line, list(model.parameters()), at=(0.0, 0.0))
    objective = problems.objective(problems.linear(), problems.vectors())
    with pytest.raises(SettingError, match="must have the same parameters"):
        gradient_arrows(objective, line, [(0.0,)])
    with pytest.raises(SettingError, match="lr must be > 0"):
        gradient_arrows(problems.objective(model, problems.vectors()), line, [], lr=0)


def test_other_buffers_are_refused():
    model, other = problems.linear(), problems.linear()
    model.register_buffer("table", torch.zeros(3))
    other.register_buffer("table", torch.zeros(4))
    line, objective = Line.random(model), problems.objective(other, problems.vectors())
    with pytest.raises(SettingError, match="must have the same buffers: table"):
        gradient_arrows(objective, line, [(0.0,)])
    with pytest.raises(SettingError, match="must have the same buffers: table"):
        project(line, [model], objective)
    curve = Curve.bezier(model, copy.deepcopy(model))
    with pytest.raises(SettingError, match="must have the same buffers: table"):
        curve.fit(objective, steps=1)
    with pytest.raises(SettingError, match="must have the same buffers: table"):
        barriers(objective, [other, other], paths=["curve"], curve=lambda *_: curve)
