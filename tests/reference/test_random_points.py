"""Random points of measures: size of the noise, shared draws, error rates, by hand."""

import math
from typing import get_args

import pytest
import torch
from torch import nn

import problems
from steppe.errors import UsageError
from steppe.losses import L2
from steppe.measures import Measurement
from steppe.measures.needs.points.perturbed import (
    RandomPoint,
    Scale,
    around,
    error_rates,
    perturbed_losses,
)
from steppe.objective import Objective
from steppe.symmetries.balancing import Balanced, balancing_scales

SCALES = get_args(Scale)
# Standard deviation and fourth moment over the squared second one.
SHAPES = {"gaussian": (1.0, 3.0), "uniform": (1 / 3**0.5, 1.8)}


@torch.no_grad()
def by_hand(model, scale):
    """What noise of size 1 is multiplied by, entry by entry."""
    row = model.weight.norm(dim=1, keepdim=True).expand(-1, 4)
    size = model.weight.norm(dim=1) + model.bias.abs()
    weight, bias = {
        "raw": (torch.ones(3, 4), torch.ones(3)),
        "filter": (row, model.bias.norm().expand(3)),
        "balanced": (size[:, None].expand(-1, 4), size),
        "adaptive": (model.weight.abs(), model.bias.abs()),
    }[scale]
    return torch.cat([weight.flatten(), bias]).double()


def differences(measurement, points):
    model = measurement.objective.model
    start = problems.flat(model)
    found = around(measurement, points, lambda: problems.flat(model) - start)
    return torch.stack(found)


@pytest.mark.parametrize("noise", SHAPES)
@pytest.mark.parametrize("scale", SCALES)
def test_noise_has_the_size_and_the_shape_it_says(scale, noise):
    model = problems.drawn(nn.Linear(4, 3))
    measurement = Measurement(problems.objective(model, problems.vectors()))
    draws = 4000
    points = [RandomPoint(m, 0.3, scale, noise) for m in range(draws)]
    moved = differences(measurement, points)
    units = moved / (0.3 * by_hand(model, scale))
    deviation, fourth = SHAPES[noise]
    squares = units.square() / deviation**2
    wide = 4.5 / (draws * squares.shape[1]) ** 0.5
    assert float(squares.mean()) == pytest.approx(1, abs=wide * (fourth - 1) ** 0.5)
    worst = (squares.mean(0) - 1).abs().max()
    assert worst < 4.5 * ((fourth - 1) / draws) ** 0.5
    assert float(squares.square().mean()) == pytest.approx(fourth, rel=0.06)
    if noise == "uniform":
        assert units.abs().max() <= 1 + 1e-12


def test_a_draw_is_the_same_for_every_size_and_every_scale():
    model = problems.drawn(nn.Linear(4, 3))
    measurement = Measurement(problems.objective(model, problems.vectors()), seed=3)
    points = [RandomPoint(5, sigma, scale) for sigma in (1e-3, 0.1) for scale in SCALES]
    moved = differences(measurement, points)
    standard = []
    for point, displacement in zip(points, moved, strict=True):
        standard.append(displacement / (point.sigma * by_hand(model, point.scale)))
    for each in standard[1:]:
        torch.testing.assert_close(each, standard[0], rtol=1e-9, atol=1e-12)


def test_balanced_noise_is_isotropic_noise_on_the_balanced_network():
    model, data = problems.cnn(), problems.vectors(shape=(1, 4, 4))
    here = perturbed_losses(
        Measurement(problems.objective(model, data)), 5, 0.05, "balanced"
    )
    there = perturbed_losses(
        Measurement(problems.objective(Balanced(model), data)), 5, 0.05, "raw"
    )
    torch.testing.assert_close(here, there, rtol=1e-12, atol=0)
    assert len(set(here.tolist())) == 5


def test_the_loss_and_the_error_rate_are_those_of_one_forward_pass():
    model, (x, y) = problems.mlp(), problems.vectors(n=50)
    objective = problems.objective(model, (x, y), batch_size=8)
    measurement = Measurement(objective)
    points = [RandomPoint(m, 0.4) for m in range(6)]
    before = objective.cost
    found = measurement.of_all(points)
    assert (objective.cost - before - objective.checks).forwards == 6
    rates = error_rates(measurement.of_all(points))
    assert (objective.cost - before - objective.checks).forwards == 6
    outputs = around(measurement, points, lambda: model(x))
    for point, z, rate in zip(found, outputs, rates.tolist(), strict=True):
        loss = nn.functional.cross_entropy(z, y)
        assert point.loss == pytest.approx(float(loss), rel=1e-12)
        assert point.error_rate == rate == float((z.argmax(1) != y).double().mean())
    assert len(set(rates.tolist())) > 1


def test_ignored_targets_and_classes_along_the_last_dimension_are_counted_right():
    model = problems.drawn(nn.Linear(4, 3))
    x = torch.randn((5, 6, 4), generator=problems.generator()).double()
    y = torch.randint(3, (5, 6), generator=problems.generator())
    y[:, 0] = -100
    measurement = Measurement(Objective(model, (x, y), batch_size=2))
    (rate,) = error_rates(measurement.of_all([RandomPoint(0, 0.0)]))
    wrong = (model(x).argmax(2) != y)[:, 1:]
    assert float(rate) == pytest.approx(float(wrong.double().mean()), rel=1e-12)


def test_targets_that_are_probabilities_name_their_largest_class():
    model, (x, _) = problems.linear(), problems.vectors()
    y = torch.rand((7, 3), generator=problems.generator()).double()
    y /= y.sum(1, keepdim=True)
    measurement = Measurement(Objective(model, (x, y)))
    (rate,) = error_rates(measurement.of_all([RandomPoint(0, 0.0)]))
    assert float(rate) == float((model(x).argmax(1) != y.argmax(1)).double().mean())


def regression():
    x, _ = problems.vectors()
    return Objective(problems.linear(), (x, torch.zeros(7, 3).double()), loss="mse")


def opaque():
    loss = lambda model, z: model(z)  # noqa: E731
    zero = torch.zeros((1, 2)).double()
    w = torch.ones(2).double()
    return Objective(problems.Quadratic(torch.eye(2).double(), w), [zero], loss=loss)


def one_score():
    x, y = problems.vectors()
    loss = lambda model, batch: model(batch[0]).flatten().square()  # noqa: E731
    return Objective(problems.linear(classes=1), (x, y), loss=loss)


@pytest.mark.parametrize("make", [regression, opaque, one_score])
def test_outputs_that_are_no_class_scores_have_a_loss_and_no_error_rate(make):
    measurement = Measurement(make())
    (point,) = measurement.of_all([RandomPoint(0, 0.1)])
    assert math.isfinite(point.loss)
    assert math.isnan(point.error_rate)
    with pytest.raises(UsageError, match=r"scores of at least two classes .* classif"):
        error_rates([point])


def test_a_penalty_is_in_the_perturbed_loss():
    model, data = problems.linear(), problems.vectors()
    plain, with_penalty = (
        perturbed_losses(Measurement(Objective(model, data, penalty=p)), 3, 0.2)
        for p in (None, L2(0.1))
    )
    assert ((with_penalty - plain) > 0).all()


def test_scales_of_the_balanced_noise_are_those_of_the_unmoved_network():
    model, data = problems.mlp(), problems.vectors()
    measurement = Measurement(problems.objective(model, data))
    points = [RandomPoint(m, 5.0, "balanced") for m in range(2)]
    expected = balancing_scales(model, list(model.parameters()))
    differences(measurement, points)
    for one, two in zip(
        expected, balancing_scales(model, list(model.parameters())), strict=True
    ):
        assert torch.equal(one, two)
