"""Keskar sharpness where the largest loss of the box is known."""

import itertools
import math

import pytest
import torch
from torch import nn

import problems
from steppe.errors import UsageError
from steppe.measures import KeskarSharpness
from steppe.objective import Objective

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, 0.1])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
EPSILON = 0.1


def quadratic():
    model = problems.Quadratic(A, START)
    return Objective(model, [torch.zeros(2, 5).double()], loss=lambda m, z: m(z))


def test_a_convex_loss_is_largest_in_a_corner():
    half = EPSILON * (START.abs() + 1)
    corners = [
        START + half * torch.tensor(signs).double()
        for signs in itertools.product((-1, 1), repeat=5)
    ]
    base = float(START @ A @ START / 2)
    top = max(float(w @ A @ w / 2) for w in corners)
    result = KeskarSharpness(epsilon=EPSILON)(quadratic())
    assert result.value == pytest.approx(100 * (top - base) / (1 + base), rel=1e-12)
    assert result.details["largest_loss"] == pytest.approx(top, rel=1e-12)
    assert result.stderr == 0


@pytest.mark.parametrize("epsilon", [1e-3, 0.05])
def test_it_is_no_less_than_the_optimizer_of_the_paper_finds(epsilon):
    optimize = pytest.importorskip("scipy.optimize")
    model, data = problems.mlp(), problems.vectors()
    loss, at = problems.loss_of(model, data), problems.flat(model)
    half = (epsilon * (at.abs() + 1)).numpy()

    def down(delta):
        slope, value = torch.func.grad_and_value(loss)(at + torch.from_numpy(delta))
        return -float(value), -slope.numpy()

    best = optimize.minimize(
        down,
        0 * half,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(-half, half, strict=True)),
        options={"maxiter": 100},
    )
    base = float(loss(at))
    expected = 100 * (-best.fun - base) / (1 + base)
    result = KeskarSharpness(epsilon=epsilon, steps=50)(problems.objective(model, data))
    assert result.value == pytest.approx(expected, rel=1e-3)
    assert result.value > expected * (1 - 1e-6)


def linear_loss():
    """A loss that rises along x, and notes where it is evaluated."""
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(START)
    visited = []

    def loss(model, batch):
        visited.append(model.weight[0].detach().clone())
        return model(batch[0])[:, 0] + 10

    x = torch.tensor([[0.3, -1.0, 2.0, 0.0, 0.7]]).double()
    return Objective(model, (x,), loss=loss), x[0], visited


def test_one_direction_has_its_own_box():
    objective, x, visited = linear_loss()
    result = KeskarSharpness(epsilon=EPSILON, subspace=1)(objective)
    moved = torch.stack(visited) - START
    a = moved[moved.norm(dim=1).argmax()]
    a = a / a.norm()
    half = EPSILON * (abs(a @ START) + 1)
    assert float(moved.norm(dim=1).max()) == pytest.approx(float(half), rel=1e-9)
    base = float(x @ START) + 10
    expected = 100 * float(half * abs(a @ x)) / (1 + base)
    assert result.value == pytest.approx(expected, rel=1e-9)
    assert result.stderr == math.inf


@pytest.mark.parametrize("dimensions", [2, 3, 50])
def test_a_subspace_has_its_dimensions(dimensions):
    objective, _, visited = linear_loss()
    with_curve = Objective(
        objective.model,
        list(objective.batches),
        loss=lambda m, b: objective.loss(m, b) + 5 * m.weight.square().sum(),
    )
    result = KeskarSharpness(epsilon=2.0, subspace=dimensions, restarts=6)(with_curve)
    moved = torch.stack(visited) - START
    rank = torch.linalg.matrix_rank(moved, rtol=1e-9)
    assert int(rank) == min(dimensions, 5)
    assert 0 < result.value < math.inf


def test_a_loss_of_less_than_minus_one_is_refused():
    model = problems.Quadratic(A, START)
    objective = Objective(
        model, [torch.zeros(2, 5).double()], loss=lambda m, z: m(z) - 1000
    )
    with pytest.raises(UsageError, match=r"divides by 1 \+ loss"):
        KeskarSharpness()(objective)
