"""Automatic ranges: known bowls, walls, flat losses, and what they cost."""

import math

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.landscapes.evaluation.band import band
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.box import Box
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective


class Along(torch.nn.Module):
    """The loss is a function of one number, 0 at the start."""

    def __init__(self, function):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1, 2).double())
        self.function = function

    def forward(self, batch):
        return self.function(self.w[0, 0] - 1) + 0 * batch[:, 0]


def scene(function):
    """The line has the coordinate that the loss is a function of."""
    model = Along(function)
    objective = Objective(model, [torch.zeros(3, 1).double()], lambda m, b: m(b))
    line = Line.random(model)
    direction = torch.tensor([[1.0, 0.0]]).double()
    return objective, Line(**{**vars(line), "directions": ((direction,),)})


def sought(function, x="auto"):
    objective, line = scene(function)
    surface = landscape(objective, line, x)
    return surface, surface.details["auto"]["x"]


@pytest.mark.parametrize("width", [1e-3, 0.02, 0.3, 1.0, 5.0, 20.0])
def test_a_bowl_ends_where_its_loss_is_ten_times_as_high(width):
    surface, about = sought(lambda t: 0.2 * (1 + 9 * (t / width) ** 2))
    end = surface.x[-1]
    assert surface.x[0] == -end
    assert surface.x[25] == 0
    assert len(surface.x) == 51
    assert end == pytest.approx(width, rel=0.05)
    assert 7 < float(surface.loss[-1] / surface.loss[25]) < 13
    crossings = about["crossings"]
    for level, share in [("1.01", 0.01 / 9), ("3", 2 / 9), ("10", 1)]:
        assert crossings[level] == pytest.approx(width * math.sqrt(share), rel=0.01)
    assert about["evaluations"] <= 9


@pytest.mark.parametrize(
    "function",
    [
        lambda t: 0.1 + (t / 0.7).abs() ** 3,
        lambda t: 0.1 * torch.exp(3 * t),
        lambda t: 0.1 + 2.9 * torch.sigmoid(30 * (t.abs() - 0.4)),
        lambda t: 0.1 + torch.where(t.abs() > 0.3, torch.inf * t.abs(), t * t),
    ],
    ids=["cubic", "one-sided", "step", "wall"],
)
def test_other_shapes_end_near_ten_times_within_few_evaluations(function):
    surface, about = sought(function)
    assert about["evaluations"] <= 13
    at = about["crossings"]["10"]
    steeper = max(float(function(torch.tensor(s * at * 1.2).double())) for s in (-1, 1))
    below = max(float(function(torch.tensor(s * at / 1.6).double())) for s in (-1, 1))
    base = float(function(torch.tensor(0.0).double()))
    assert steeper >= 7 * base
    assert below <= 13 * base
    assert surface.x[-1] == pytest.approx(at, rel=0.05)


def test_a_loss_that_rises_less_ends_at_the_highest_level_it_reaches():
    surface, about = sought(lambda t: 1 + 3 * torch.tanh(t * t))
    assert about["crossings"]["10"] is None
    assert surface.x[-1] == pytest.approx(about["crossings"]["3"], rel=0.05)
    flat, about = sought(lambda t: 1 + 0 * t)
    assert set(about["crossings"].values()) == {None}
    assert flat.x[-1] == 1.0


def test_a_loss_of_zero_has_a_range_too():
    surface, _ = sought(lambda t: t * t)
    assert float(surface.loss[-1]) == pytest.approx(9e-3, rel=0.4)


def test_every_axis_has_a_range_of_its_own_and_the_rest_is_as_given():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    seen = []
    surface = landscape(
        objective,
        Plane.random(model),
        ("auto", 5),
        [0.0, 0.5],
        progress=lambda *now: seen.append(now),
    )
    assert len(surface.x) == 5
    assert surface.y == (0.0, 0.5)
    assert list(surface.details["auto"]) == ["x"]
    assert surface.details["range"]["x"] == (surface.x[0], surface.x[-1])
    assert seen[-1][0] == seen[-1][1]
    axes = ["auto", [0.0], ("auto", 3)]
    surface = landscape(objective, Box.random(model), axes=axes)
    assert list(surface.details["auto"]) == ["x", "z"]
    end = surface.x[-1]
    alone = landscape(objective, Box.random(model), (-end, end, 51), [0.0], surface.z)
    assert torch.equal(alone.loss, surface.loss)


def test_lines_of_a_band_share_the_range_of_the_first():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    found = band(objective, range(3), ("auto", 5))
    assert found.x == landscape(objective, Line.random(model), ("auto", 5)).x


def test_mistakes_are_one_sentence():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    line = Line.between(model, problems.mlp(seed=3))
    with pytest.raises(SettingError, match="x='auto' needs an axis around the base"):
        landscape(objective, line, "auto")
    with pytest.raises(SettingError, match=r"the count of .* must be >= 2, got 1"):
        landscape(objective, Line.random(model), ("auto", 1))
    with pytest.raises(SettingError, match=r"x must be .*got 'automatic'"):
        landscape(objective, Line.random(model), "automatic")
