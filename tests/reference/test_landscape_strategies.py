"""Ways to evaluate points: all give the losses of one pass after the other."""

import contextlib
import copy
import math

import pytest
import torch
from torch import nn

import problems
from steppe.landscapes.evaluation.evaluator import Evaluator
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.curve import Curve
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective
from steppe.parameters import overwrite_

GRID = {"x": (-1, 1, 5), "y": (-0.5, 0.5, 3)}
SHARED = "shared first layer"


def lenet():
    layers = (
        *(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"), nn.ReLU(True)),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    )
    return problems.drawn(nn.Sequential(*layers)), problems.vectors(shape=(1, 4, 4))


class Scaled(nn.Module):
    """Scales its inputs by a parameter before the first layer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(problems.INPUTS, 1))
        self.layers = problems.mlp()

    def forward(self, x):
        return self.layers(x * self.scale[:, 0])


class Twice(nn.Module):
    """Calls its first layer with two inputs, and shares its weight with another one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.first(x).tanh() + self.first(x.square()).relu())


class TiedLast(Twice):
    def forward(self, x):
        return self.last(self.first(x).tanh())


CASES = {
    "mlp": (lambda: (problems.mlp(), problems.vectors()), True),
    "lenet": (lenet, True),
    "linear": (lambda: (problems.linear(), problems.vectors()), True),
    "tied": (lambda: (problems.drawn(TiedLast()), problems.vectors()), True),
    "scaled inputs": (lambda: (problems.drawn(Scaled()), problems.vectors()), False),
    "twice": (lambda: (problems.drawn(Twice()), problems.vectors()), False),
    "lstm": (lambda: problems.networks()["lstm"], False),
    "attention": (lambda: problems.networks()["attention"], False),
    "batch norm": (lambda: problems.networks()["batch_norm"], True),
}
CASE = pytest.mark.parametrize(("make", "shares"), CASES.values(), ids=CASES)


@CASE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_shared_first_layer_changes_losses_by_rounding_alone(make, shares, dtype):
    model, (x, y) = make()
    model, x = model.to(dtype), x.to(dtype)
    before = problems.state_of(model)
    objective = problems.objective(model, (x, y))
    plane = Plane.random(model, ignore="none")
    plain = landscape(objective, plane, **GRID, strategy="one_by_one")
    found = landscape(objective, plane, **GRID)
    problems.assert_same(problems.state_of(model), before)
    rtol = 3e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.loss, plain.loss, rtol=rtol, atol=0)
    torch.testing.assert_close(found.stderr, plain.stderr, rtol=1e-4, atol=0)
    assert (found.details["strategy"] == SHARED) == shares
    assert plain.details["strategy"] == "one by one"
    assert float(found.loss[1, 2]) == float(plain.loss[1, 2])
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("strategy", ["auto", "one_by_one"])
def test_points_have_the_same_bits_whichever_others_are_evaluated(strategy):
    model, (x, y) = problems.mlp().float(), problems.vectors(70)
    objective = problems.objective(model, (x.float(), y), 32)
    plane = Plane.random(model)
    points = [(0.01 * i, 0.3 - 0.02 * i) for i in range(80)]
    together = Evaluator(objective, plane, strategy=strategy).evaluate(points)
    other = Evaluator(objective, plane, strategy=strategy)
    order = torch.randperm(80, generator=problems.generator()).tolist()
    for start, stop in ((0, 1), (1, 3), (3, 40), (40, 80)):
        chosen = order[start:stop]
        again = other.evaluate([points[i] for i in chosen])
        assert again == [together[i] for i in chosen]


def test_curves_share_a_first_layer_and_meet_both_networks():
    a, b = problems.mlp(seed=1), problems.mlp(seed=2)
    data = problems.vectors()
    curve = Curve.bezier(a, b, bends=3)
    objective = problems.objective(a, data)
    found = landscape(objective, curve, x=[0.0, 0.3, 1.0])
    plain = landscape(objective, curve, x=[0.0, 0.3, 1.0], strategy="one_by_one")
    torch.testing.assert_close(found.loss, plain.loss, rtol=1e-12, atol=0)
    assert found.details["strategy"] == SHARED
    ends = [problems.objective(m, data).value().value for m in (a, b)]
    assert found.loss[0] == ends[0]
    assert float(found.loss[2]) == pytest.approx(ends[1], rel=1e-14)


def test_inputs_that_depend_on_the_point_go_through_the_layer():
    class Shifted(nn.Module):
        """Adds a parameter to its inputs outside of any layer."""

        def __init__(self):
            super().__init__()
            self.shift = nn.ParameterList([torch.zeros(4)])
            self.layers = problems.mlp()

        def forward(self, x):
            return self.layers(x + self.shift[0])

    model, data = problems.drawn(Shifted()), problems.vectors()
    line = Line.random(model, ignore="none")
    objective = problems.objective(model, data)
    found = landscape(objective, line, x=(-1, 1, 5))
    plain = landscape(objective, line, x=(-1, 1, 5), strategy="one_by_one")
    torch.testing.assert_close(found.loss, plain.loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("strategy", ["auto", "one_by_one"])
def test_linear_regression_is_a_quadratic_form_of_the_coordinates(strategy):
    model = problems.linear(classes=2)
    source = problems.generator(6)
    x = torch.randn((1000, 4), generator=source, dtype=torch.float64)
    y = torch.randn((1000, 2), generator=source, dtype=torch.float64)
    # Seven batches of 128 and a short one: samples weigh alike.
    objective = Objective(model, (x, y), "mse", batch_size=128)
    plane = Plane.random(model)
    found = landscape(
        objective, plane, (-1, 1, 11), (-2, 1, 7), strategy=strategy, exact=True
    )
    along = [torch.tensor(each, dtype=torch.float64) for each in found.coordinates]
    a, b = torch.meshgrid(*along, indexing="xy")
    terms = torch.stack([a**0, a, b, a * a, a * b, b * b], -1).flatten(0, 1)
    six = torch.tensor([0, 3, 10, 25, 44, 76])
    losses = found.loss.flatten()
    fit = torch.linalg.solve(terms[six], losses[six])
    torch.testing.assert_close(terms @ fit, losses, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strategy", ["auto", "one_by_one"])
def test_a_zero_head_gives_the_logarithm_of_the_number_of_classes(strategy):
    model = problems.mlp()
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    found = landscape(
        problems.objective(model, problems.vectors()),
        Plane.random(model),
        **GRID,
        strategy=strategy,
    )
    expected = torch.full_like(found.loss, math.log(problems.CLASSES))
    torch.testing.assert_close(found.loss, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_centre_is_the_loss_of_the_untouched_model_bit_for_bit(dtype):
    model, (x, y) = problems.mlp().to(dtype), problems.vectors(1000)
    objective = Objective(model, (x.to(dtype), y), batch_size=128)
    value = objective.value().value
    for settings in ({}, {"samples": 100}, {"strategy": "one_by_one"}):
        found = landscape(objective, Line.random(model), x=(-1, 1, 3), **settings)
        assert float(found.loss[1]) == value


def test_long_batches_are_cut_where_losses_are_those_of_rows():
    model, data = problems.mlp(), problems.vectors(1000)
    objective = Objective(model, data, batch_size=1000)
    line = Line.random(model)
    evaluator = Evaluator(objective, line)
    (found,) = evaluator.evaluate([(0.4,)])
    assert [len(x) for x, _ in evaluator.part.objective.batches] == [256] * 3 + [232]
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for p, to in zip(moved.parameters(), line.point(0.4), strict=True):
            p.copy_(to)
    expected = Objective(moved, data).value()
    assert found.loss == pytest.approx(expected.value, rel=1e-12)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-10)


@pytest.mark.parametrize("strategy", ["auto", "one_by_one"])
def test_an_exception_in_the_model_leaves_no_trace(strategy):
    class Failing(nn.Sequential):
        calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 12:
                raise KeyboardInterrupt
            return super().forward(x)

    model, data = Failing(*problems.mlp()), problems.vectors()
    before, weights = problems.state_of(model), problems.flat(model)
    objective = problems.objective(model, data)
    with pytest.raises(KeyboardInterrupt):
        landscape(objective, Plane.random(model), **GRID, strategy=strategy)
    problems.assert_same(problems.state_of(model), before)
    assert torch.equal(problems.flat(model), weights)
    assert all("forward" not in vars(module) for module in model.modules())


class FactorFirst(nn.Module):
    """A trained factor before the first layer, written to one place or to a new one."""

    def __init__(self, *, one_place: bool) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(12) + 0.5)
        self.first, self.last = nn.Linear(12, 30), nn.Linear(30, 3)
        self.place = torch.zeros(16, 12) if one_place else None

    def forward(self, x):
        with torch.no_grad() if self.place is not None else contextlib.nullcontext():
            x = x * self.factor
            if self.place is not None:
                x = self.place.copy_(x)
        return self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize("one_place", [False, True])
def test_inputs_that_depend_on_the_point_are_those_of_the_point_alone(one_place):
    torch.manual_seed(0)
    model = FactorFirst(one_place=one_place)
    data = torch.randn(32, 12), torch.randint(0, 3, (32,))
    objective = Objective(model, data, batch_size=16)
    line = Line.random(model, ignore="none")
    evaluator = Evaluator(objective, line)
    together = evaluator.evaluate([(0.3,), (0.7,)])
    assert evaluator.used == "shared first layer"
    alone = Evaluator(objective, line).evaluate([(0.7,)])
    assert together[1] == alone[0]
    overwrite_(objective.params, line.point(0.7))
    assert together[1].loss == pytest.approx(objective.value().value, rel=1e-6)
