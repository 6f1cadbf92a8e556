"""The Fisher-Rao norm beside closed forms of a homogeneous network.

Shape letters: N samples, C classes.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import UsageError
from steppe.measures import measure
from steppe.objective import Objective

LAYERS = 3


def network():
    model, (x, y) = problems.mlp(nn.ReLU, bias=False), problems.vectors(9)
    f = model(x).detach()
    p = torch.softmax(f, 1)
    return model, (x, y), f, p, F.one_hot(y, problems.CLASSES).double()


def variance(f, p):
    """Mean variance of the score of a class that is drawn from the prediction."""
    return float(((p * f.square()).sum(1) - (p * f).sum(1).square()).mean())


def norm(objective, settings=""):
    (found,) = measure(objective, [f"fisher_rao{settings}"]).values()
    assert found.stderr == 0
    return found


def test_the_norm_of_a_homogeneous_network_is_that_of_its_outputs():
    model, data, f, p, y = network()
    objective = problems.objective(model, data)
    expected = LAYERS**2 * variance(f, p)
    found = norm(objective)
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert found.details["matrix_used"] == "fisher"
    assert norm(objective, ":matrix=ggn").value == pytest.approx(expected, rel=1e-10)
    along = ((p - y) * f).sum(1)
    empirical = LAYERS**2 * float(along.square().mean())
    given = norm(objective, ":matrix=empirical_fisher").value
    assert given == pytest.approx(empirical, rel=1e-10)


def test_the_published_one_has_the_curvature_of_the_network_too():
    model, data, f, p, y = network()
    objective = problems.objective(model, data)
    curved = LAYERS * (LAYERS - 1) * float(((p - y) * f).sum(1).mean())
    expected = LAYERS**2 * variance(f, p) + curved
    found = norm(objective, ":variant=published").value
    assert found == pytest.approx(expected, rel=1e-10)
    w = problems.flat(model)
    H = problems.dense_hessian(model, data)
    assert found == pytest.approx(float(w @ H @ w), rel=1e-10)


def test_the_published_one_may_be_negative():
    model, (x, _), *_ = network()
    with torch.no_grad():
        model[4].weight.mul_(0.1)  # the variance falls faster than the margin
    right = model(x).argmax(1)  # targets that the network predicts
    objective = problems.objective(model, (x, right))
    assert norm(objective, ":variant=published").value < 0
    assert norm(objective).value > 0


@pytest.mark.parametrize("kind", ["tanh", "batch_norm", "attention"])
def test_it_is_the_derivative_of_the_outputs_along_the_parameters(kind):
    model, data = problems.networks()[kind]
    outputs = problems.outputs_of(model, data)
    w = problems.flat(model)
    step = 1e-5
    along = (outputs(w * (1 + step)) - outputs(w * (1 - step))) / (2 * step)
    expected = variance(along.detach(), torch.softmax(outputs(w).detach(), 1))
    found = norm(problems.objective(model, data)).value
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_squared_error_has_the_squares_of_the_outputs():
    model, (x, _), f, *_ = network()
    objective = Objective(model, (x, torch.zeros_like(f)), loss="mse", batch_size=4)
    expected = LAYERS**2 * 2 * float(f.square().mean())
    assert norm(objective).value == pytest.approx(expected, rel=1e-10)


def test_a_loss_without_a_distribution_has_the_gauss_newton_matrix():
    model, (x, y), f, p, _ = network()

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    objective = Objective(model, (x, y), loss=loss, batch_size=4)
    found = norm(objective)
    assert found.details["matrix_used"] == "ggn"
    assert found.value == pytest.approx(LAYERS**2 * variance(f, p), rel=1e-10)
    with pytest.raises(UsageError, match="needs the distribution of the targets"):
        norm(objective, ":matrix=fisher")
