"""Rises along the gradients of groups, from gradients taken by torch alone."""

import copy

import pytest
import torch
from torch import nn

import problems
from steppe.measures import ASAMSharpness, SAMSharpness, SurrogateGap, measure
from steppe.objective import Objective

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)


def groups_of(size):
    """Slope of the loss of each group, and its share of the samples."""
    model, (x, y) = problems.mlp(nn.ReLU), problems.vectors()
    loss_of = [
        (problems.loss_of(model, (xs, ys)), len(xs) / 7)
        for xs, ys in zip(x.split(size), y.split(size), strict=True)
    ]
    at = problems.flat(model)
    return at, [(torch.func.grad(loss)(at), loss, share) for loss, share in loss_of]


@pytest.mark.parametrize("size", [1, 2, 7, 128])
def test_they_are_means_over_groups(size):
    at, groups = groups_of(size)
    rho = 0.2
    expected = {
        "sam": sum(share * rho * g.norm() for g, _, share in groups),
        "asam": sum(share * rho * (at.abs() * g).norm() for g, _, share in groups),
        "gap": sum(
            share * (loss(at + rho * g / g.norm()) - loss(at))
            for g, loss, share in groups
        ),
    }
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    kinds = {"sam": SAMSharpness, "asam": ASAMSharpness, "gap": SurrogateGap}
    for name, kind in kinds.items():
        result = kind(rho=rho, group_size=size)(objective)
        assert result.value == pytest.approx(float(expected[name]), rel=1e-9), name
        assert result.samples == len(groups)


def test_the_gap_of_a_quadratic_has_its_closed_form():
    model = problems.Quadratic(A, START)
    objective = Objective(model, [torch.zeros(1, 5).double()], loss=lambda m, z: m(z))
    g, rho = A @ START, 0.3
    expected = rho * g.norm() + rho**2 / 2 * (g @ A @ g) / (g @ g)
    result = SurrogateGap(rho=rho)(objective)
    assert result.value == pytest.approx(float(expected), rel=1e-12)
    downhill = problems.Quadratic(-A.T @ A, START)
    steep = Objective(downhill, [torch.zeros(1, 5).double()], loss=lambda m, z: m(z))
    assert SurrogateGap(rho=20.0)(steep).value < 0


def test_at_a_point_without_a_gradient_nothing_rises():
    model = problems.Quadratic(A, START)
    objective = Objective(model, [START[None]], loss=lambda m, z: m(z))
    for value in measure(objective, ["sam_sharpness", "surrogate_gap"]).values():
        assert value.value == 0


def test_a_gradient_that_is_not_finite_is_no_estimate():
    model = problems.mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    objective = problems.objective(model, problems.vectors())
    names = ["sam_sharpness", "asam_sharpness", "surrogate_gap", "worst_sharpness"]
    for result in measure(objective, names).values():
        assert not result.converged


def test_two_first_order_measures_share_the_gradients():
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    measure(objective, ["sam_sharpness", "asam_sharpness"])
    assert (objective.cost - objective.checks).gradients == 1


def test_statistics_of_batch_norm_follow_the_weights():
    model, data = problems.networks()["batch_norm"]
    objective = Objective(model, data, mode="reestimate", batch_size=3)
    gradient, rho = objective.gradient(), 0.5
    length = torch.cat([g.flatten() for g in gradient]).norm()
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for p, g in zip(moved.parameters(), gradient, strict=True):
            p.add_(rho * g / length)
    above = Objective(moved, data, mode="reestimate").value().value
    result = SurrogateGap(rho=rho)(objective)
    assert result.value == pytest.approx(above - objective.value().value, rel=1e-9)
    assert result.details["groups"] == "samples"
    # One pass for the statistics at the moved weights; those before are remembered, or
    # those of the groups are one more.
    assert 2 <= result.cost.forwards <= 4
    stale = SurrogateGap(rho=rho)(Objective(model, data)).value
    assert abs(stale - result.value) > 1e-3


def test_tokens_weigh_alike():
    """A group of one sequence with 1 counted token, and one of 4."""
    x = torch.randn(2, 4, 4, generator=problems.generator()).double()
    y = torch.tensor([[1, -100, -100, -100], [0, 2, 1, 1]])
    model = problems.linear()
    objective = Objective(model, (x, y))
    norms = []
    for row in range(2):
        counted = y[row] >= 0
        loss = nn.functional.cross_entropy(model(x[row][counted]), y[row][counted])
        norms.append(float(torch.autograd.grad(loss, model.weight)[0].norm()))
    result = SAMSharpness(rho=1.0, group_size=1)(objective)
    assert result.value == pytest.approx((norms[0] + 4 * norms[1]) / 5, rel=1e-9)
