"""Lines and planes along eigenvectors: parabolas, signs, and the length of a step."""

import copy
import dataclasses

import pytest
import torch

import problems
from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError, UsageError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.linalg.lanczos import eigsh
from steppe.losses import L2
from steppe.objective import Objective
from steppe.parameters import flatten

VALUES = [4.0, 3.0, 1.0, 0.5, -0.2]
A = problems.symmetric(VALUES)
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
CUTS = sorted({0.0, *(s * 2.0**k for s in (-1, 1) for k in range(-2, 5))})


def bowl(dtype=torch.float64):
    z = torch.randn((7, 5), generator=problems.generator(), dtype=torch.float64)
    model = problems.Quadratic(A, START).to(dtype)
    return Objective(model, [z[:5].to(dtype), z[5:].to(dtype)], loss=lambda m, z: m(z))


@pytest.mark.parametrize("index", [0, 1, 2, -1])
def test_a_second_difference_along_an_eigenvector_is_its_eigenvalue(index):
    objective = bowl()
    line = Line.eigen(objective, index, tol=1e-12)
    eigenvalue = sorted(VALUES, reverse=True)[index]
    assert line.details["eigenvalues"] == pytest.approx([eigenvalue], rel=1e-10)
    assert float(flatten(line.direction).norm()) == pytest.approx(1, rel=1e-14)
    h = 0.5
    low, middle, high = landscape(objective, line, x=[-h, 0.0, h]).loss.tolist()
    second = (high - 2 * middle + low) / h**2
    assert second == pytest.approx(eigenvalue, rel=1e-9, abs=1e-9)


def test_the_loss_along_an_eigenvector_is_an_exact_parabola_at_any_coordinates():
    objective = bowl()
    line = Line.eigen(objective, tol=1e-12)
    surface = landscape(objective, line, x=CUTS)
    assert surface.x == tuple(CUTS)
    value, slope = objective.value().value, flatten(objective.gradient())
    slope = float(slope @ flatten(line.direction))
    c = torch.tensor(CUTS, dtype=torch.float64)
    expected = value + slope * c + 0.5 * VALUES[0] * c**2
    torch.testing.assert_close(surface.loss, expected, rtol=1e-9, atol=1e-9)


def test_a_network_has_the_eigenpairs_of_its_dense_hessian():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data)
    values, vectors = torch.linalg.eigh(problems.dense_hessian(model, data))
    plane = Plane.eigen(objective, (0, -1), tol=1e-9)
    for direction, at in zip(plane.directions, (-1, 0), strict=True):
        expected = vectors[:, at]
        expected = expected * expected[expected.abs().argmax()].sign()
        torch.testing.assert_close(flatten(direction), expected, rtol=0, atol=1e-6)
    expected = [float(values[-1]), float(values[0])]
    assert plane.details["eigenvalues"] == pytest.approx(expected, rel=1e-9)
    assert max(plane.details["residuals"]) < 1e-6


def test_the_sign_does_not_depend_on_the_search():
    objective = problems.objective(problems.mlp(), problems.vectors())
    pairs = eigsh(Hessian(objective), 3, tol=1e-8)
    turned = dataclasses.replace(pairs, vectors=-3 * pairs.vectors)
    first = Plane.eigen(objective, (0, 2), pairs=pairs)
    second = Plane.eigen(objective, (0, 2), pairs=turned)
    for one, two in zip(first.directions, second.directions, strict=True):
        torch.testing.assert_close(flatten(one), flatten(two), rtol=0, atol=1e-15)
        assert float(flatten(one)[flatten(one).abs().argmax()]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [None, L2(1e-2)])
def test_a_step_is_the_mean_part_of_ten_minibatch_gradients(penalty):
    model, data = problems.mlp(), problems.vectors(37)
    objective = problems.objective(model, data, penalty=penalty)
    small = problems.objective(model, data, 3, penalty=penalty)
    line = Line.eigen(objective, tol=1e-9, unit="step", lr=0.2, minibatches=small)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0))[:10]
    v = flatten(Line.eigen(objective, tol=1e-9).direction)
    parts = []
    for i in order.tolist():
        x, y = data[0][3 * i : 3 * i + 3], data[1][3 * i : 3 * i + 3]
        loss = torch.nn.functional.cross_entropy(model(x), y)
        if penalty is not None:
            loss = loss + 1e-2 * sum(
                p.square().sum() for p in model.parameters() if p.dim() > 1
            )
        g = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]
        )
        parts.append(0.2 * abs(float(g @ v)))
    expected = sum(parts) / 10
    assert line.details["lengths"] == pytest.approx([expected], rel=1e-9)
    assert line.details["minibatches"] == 10
    torch.testing.assert_close(flatten(line.direction), expected * v)
    assert "steps of SGD" in line.axes[0].unit


def test_a_unit_may_be_a_length():
    objective = bowl()
    line = Line.eigen(objective, unit=0.25)
    assert float(flatten(line.direction).norm()) == pytest.approx(0.25, rel=1e-14)


def test_nothing_has_moved():
    model, data = problems.networks()["batch_norm"]
    model[0].weight.grad = torch.ones_like(model[0].weight)
    objective = problems.objective(model, data, 5)
    before = problems.state_of(model)
    Line.eigen(objective, unit="step", lr=0.1)
    problems.assert_same(problems.state_of(model), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "metres"}, "unit must be"),
        ({"unit": "step"}, "lr must be given"),
        ({"lr": 0.1}, "lr must be given"),
        ({"unit": -1.0}, "unit must be > 0"),
        ({"unit": "step", "lr": 0.0}, "lr must be > 0"),
        ({"index": 5}, "must be one of 5"),
        ({"index": 0.5}, "index must be a whole number"),
        ({"minibatches": 7}, "minibatches needs a steppe.Objective"),
    ],
)
def test_settings_are_refused_in_a_sentence(settings, message):
    with pytest.raises(SettingError, match=message):
        Line.eigen(bowl(), **settings)


def test_other_networks_and_half_precision_are_refused():
    objective = bowl()
    pairs = eigsh(torch.diag(torch.arange(4.0)), 2)
    with pytest.raises(SettingError, match="must have 5 entries"):
        Line.eigen(objective, pairs=pairs)
    with pytest.raises(SettingError, match="must differ"):
        Plane.eigen(objective, (1, 1))
    with pytest.raises(SettingError, match=r"use model.float\(\)"):
        Line.eigen(bowl(torch.bfloat16))
    other = problems.objective(copy.deepcopy(objective.model), objective.batches)
    with pytest.raises(SettingError, match="of the same model"):
        Line.eigen(objective, unit="step", lr=0.1, minibatches=other)


def test_pairs_that_did_not_converge_are_refused_unless_allowed():
    objective = problems.objective(problems.mlp(), problems.vectors())
    with pytest.raises(UsageError, match="did not converge in 3 products"):
        Line.eigen(objective, tol=1e-9, max_products=3)
    line = Line.eigen(objective, tol=1e-9, max_products=3, allow_unconverged=True)
    assert line.details["converged"] is False


def test_a_step_without_a_part_along_the_eigenvector_is_refused():
    objective = bowl()
    flat = Objective(
        objective.model, [torch.zeros(1, 5)], loss=lambda m, _: 0 * m.w[:1]
    )
    with pytest.raises(UsageError, match="unit='absolute'"):
        Line.eigen(objective, unit="step", lr=0.1, minibatches=flat)
