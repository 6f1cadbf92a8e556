"""Surfaces of any number of axes, and which coordinates each of them has."""

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.box import Box
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective
from steppe.parameters import flatten

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.1], dtype=torch.float64)


def bowl(start=START):
    model = problems.Quadratic(A, start)
    z = torch.randn((7, 5), generator=problems.generator(), dtype=torch.float64)
    return Objective(model, [z[:5], z[5:]], loss=lambda model, z: model(z)), z


def models(count):
    starts = torch.randn((count, 5), generator=problems.generator(3)).double()
    return [problems.Quadratic(A, start) for start in starts]


def test_a_bowl_on_four_axes_is_its_quadratic_form():
    others = models(4)
    objective, z = bowl()
    box = Box.through(objective.model, *others)
    axes = [(-1, 1, 3), [0.0, 0.5], [0.25], (0, 1, 3)]
    surface = landscape(objective, box, axes=axes)
    assert surface.loss.shape == (3, 1, 2, 3)
    assert surface.letters == ("x", "y", "z", "x4")
    directions = torch.stack([flatten(d) for d in box.directions])
    for i, w in enumerate(surface.coordinates[3]):
        for j, y in enumerate(surface.coordinates[1]):
            for k, x in enumerate(surface.coordinates[0]):
                at = START + torch.tensor([x, y, 0.25, w]).double() @ directions
                losses = 0.5 * (((at - z) @ A) * (at - z)).sum(1)
                expected = pytest.approx(float(losses.mean()), rel=1e-12)
                assert float(surface.loss[i, 0, j, k]) == expected


def test_axes_stand_for_x_y_and_z():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    box = Box.random(model)
    x, y, z = (-1, 1, 3), [0.0], [0.5, 1.0]
    one = landscape(objective, box, x, y, z)
    assert torch.equal(landscape(objective, box, axes=[x, y, z]).loss, one.loss)


def test_axes_without_coordinates_have_those_of_the_subspace():
    a, b = models(2)
    objective = Objective(a, [torch.zeros(2, 5).double()], lambda m, z: m(z))
    assert landscape(objective, Line.between(a, b)).x == tuple(
        i / 50 for i in range(51)
    )
    surface = landscape(objective, Plane.through(a, b, models(3)[2]), y=[0.5])
    assert (surface.x[0], surface.x[-1], surface.y) == (0.0, 1.0, (0.5,))
    surface = landscape(
        problems.objective(m := problems.mlp(), problems.vectors()), Line.random(m)
    )
    assert (surface.x[0], surface.x[25], surface.x[50]) == (-1.0, 0.0, 1.0)


def test_the_first_draws_of_a_box_are_those_of_lines_and_planes():
    model = problems.cnn()
    line, plane, box = Line.random(model), Plane.random(model), Box.random(model, 4)
    assert len(box.directions) == len(box.axes) == 4
    assert torch.equal(flatten(line.direction), flatten(box.directions[0]))
    for one, other in zip(plane.directions, box.directions, strict=False):
        assert torch.equal(flatten(one), flatten(other))


def test_mistakes_are_one_sentence():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    box = Box.random(model)
    with pytest.raises(SettingError, match="as axes or as x, y and z, not as both"):
        landscape(objective, box, x=[0.0], axes=[[0.0]] * 3)
    for axes in ([[0.0]] * 2, "xyz", 3):
        with pytest.raises(SettingError, match="for each of the 3 axes"):
            landscape(objective, box, axes=axes)
    with pytest.raises(SettingError, match=r"along x alone, got more: \[1.0\]"):
        landscape(objective, Line.random(model), x=[0.0], y=[1.0])
    with pytest.raises(SettingError, match="axes must be >= 1"):
        Box.random(model, 0)
