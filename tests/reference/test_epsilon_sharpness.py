"""The step uphill that raises a quadratic by eps, in closed form."""

import math

import pytest
import torch

import problems
from coverage import objective_of, quadratic
from steppe.errors import UsageError
from steppe.measures import EpsilonSharpness
from steppe.objective import Objective

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)


def closed_form(matrix, start, eps):
    gradient = matrix @ start
    norm = float(gradient.norm())
    curvature = float(gradient @ matrix @ gradient) / norm**2
    return curvature / (-norm + math.sqrt(norm**2 + 2 * curvature * eps))


@pytest.mark.parametrize("eps", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("size", [1.0, 1e-6, 1e3])
def test_it_is_one_over_the_closed_form_of_the_length(eps, size):
    found = EpsilonSharpness(eps=eps)(quadratic(A, size * START))
    # A rise of 1e-9 of the loss itself is known to seven digits.
    digits = 1e-6 if size < 1e3 else 1e-4
    expected = closed_form(A, size * START, eps)
    assert found.value == pytest.approx(expected, rel=digits)
    assert found.converged
    assert found.stderr == 0
    assert found.cost.forwards <= 4


def test_the_published_search_finds_it_coarsely_and_takes_more_passes():
    good, published = (
        EpsilonSharpness(variant=v)(quadratic(A, 0.1 * START))
        for v in ("correct", "published")
    )
    assert published.value == pytest.approx(good.value, rel=1e-4)
    assert published.cost.forwards >= 4 * good.cost.forwards
    assert published.cost.products == 0
    # With a gradient of norm 1e6, multiples of it below 1e-6 are all one.
    steep = EpsilonSharpness(variant="published")(quadratic(A * 1e6, START))
    true = closed_form(A * 1e6, START, 0.1)
    assert true / steep.value > 1.5


def test_the_step_of_a_network_raises_its_loss_by_eps():
    model, data = problems.mlp(torch.nn.ReLU), problems.vectors()
    loss = problems.loss_of(model, data)
    weights = problems.flat(model)
    gradient = torch.func.grad(loss)(weights)
    found = EpsilonSharpness()(problems.objective(model, data))
    there = weights + gradient / gradient.norm() / found.value
    assert float(loss(there) - loss(weights)) == pytest.approx(0.1, rel=1e-3)


def test_at_an_exact_minimum_there_is_no_direction():
    with pytest.raises(UsageError, match=r"must not be zero .* got 0"):
        EpsilonSharpness()(quadratic(A, torch.zeros(5).double()))


class Bounded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3).double())

    def forward(self, _):
        return 0.01 * torch.tanh(self.w.sum())[None]


@pytest.mark.parametrize("variant", ["correct", "published"])
def test_a_rise_that_is_never_reached_is_refused(variant):
    with pytest.raises(UsageError, match=r"no step along the gradient .* eps=0\.1"):
        EpsilonSharpness(variant=variant)(objective_of(Bounded()))


def test_parameters_of_two_precisions_are_one_vector():
    torch.manual_seed(0)
    single, double = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3).double()
    data = (torch.randn(20, 4), torch.randint(3, (20,)))

    def cross_entropy(model, batch):
        outputs = model[1](torch.tanh(model[0](batch[0])).double())
        return torch.nn.functional.cross_entropy(outputs, batch[1], reduction="none")

    values = []
    for model in (torch.nn.Sequential(single, double), None):
        model = model or torch.nn.Sequential(single, double).double()
        inputs = data[0].to(model[0].weight.dtype)
        objective = Objective(model, [(inputs, data[1])], loss=cross_entropy)
        values.append(EpsilonSharpness()(objective).value)
    assert values[0] == pytest.approx(values[1], rel=1e-4)
