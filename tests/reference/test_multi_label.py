"""Matrices of several yes or no answers for each sample, against dense autograd.

Shape letters: N samples, K answers, D parameters.
"""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
import steppe
from steppe.errors import DataError, UsageError
from steppe.objective import Objective

N, K = 7, 3
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
WEIGHTS = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
POSITIVE = torch.tensor([2.0, 0.3, 1.0], dtype=torch.float64)
LOSSES = {
    "plain": nn.BCEWithLogitsLoss(reduction="none"),
    "weight": nn.BCEWithLogitsLoss(WEIGHTS, reduction="none"),
    "pos_weight": nn.BCEWithLogitsLoss(pos_weight=POSITIVE, reduction="none"),
    "both": nn.BCEWithLogitsLoss(WEIGHTS, pos_weight=POSITIVE, reduction="none"),
    "function": F.binary_cross_entropy_with_logits,
    "soft_margin": nn.MultiLabelSoftMarginLoss(reduction="none"),
    "weighted_margin": nn.MultiLabelSoftMarginLoss(WEIGHTS, reduction="none"),
    "margin_function": F.multilabel_soft_margin_loss,
}


def problem(name, activation=nn.Tanh):
    model, (x, _) = problems.mlp(activation), problems.vectors(N)
    y = torch.randint(2, (N, K), generator=problems.generator(4)).double()
    return Objective(model, (x, y), LOSSES[name], batch_size=3), x, y


def weights(name, y):
    """Weight of every answer in the data, (N, K), from the definition of the loss."""
    ones = torch.ones_like(y)
    positive = torch.where(y > 0, POSITIVE, ones) if name != "weight" else ones
    return {
        "weight": ones * WEIGHTS,
        "weighted_margin": ones * WEIGHTS,
        "pos_weight": positive,
        "both": positive * WEIGHTS,
    }.get(name, ones)


def jacobian(model, x):
    """Derivatives of all outputs by all parameters, (N, K, D)."""
    outputs = problems.outputs_of(model, (x, None))
    return torch.autograd.functional.jacobian(outputs, problems.flat(model))


def matrix(H):
    return H @ torch.eye(H.shape[0], dtype=H.dtype)


def of_answers(name):
    """Mean of w p (1 - p) J' J over samples and answers, (D, D)."""
    objective, x, y = problem(name)
    J, p = jacobian(objective.model, x), objective.model(x).detach().sigmoid()
    scale = weights(name, y) * p * (1 - p) / (N * K)
    return torch.einsum("nk,nkd,nke->de", scale, J, J)


@pytest.mark.parametrize("kind", [steppe.Fisher, steppe.GGN])
@pytest.mark.parametrize("name", LOSSES)
def test_exact_matrices_are_those_of_independent_answers(name, kind):
    found = matrix(kind(problem(name)[0]))
    torch.testing.assert_close(found, of_answers(name), **CLOSE)


@pytest.mark.parametrize("name", ["plain", "soft_margin"])
def test_it_is_the_mean_outer_product_over_all_answers_the_model_may_give(name):
    # All 2^K sets of answers with their probability: the gradient of a loss term is a
    # mean of K, and so its second moment is 1 / K of the matrix.
    objective, x, _ = problem(name)
    J, z = jacobian(objective.model, x), objective.model(x).detach()
    expected = torch.zeros(J.shape[-1], J.shape[-1], dtype=J.dtype)
    for answers in itertools.product((0.0, 1.0), repeat=K):
        y = torch.tensor(answers, dtype=J.dtype).expand(N, K)
        leaf = z.clone().requires_grad_()
        losses = F.binary_cross_entropy_with_logits(leaf, y, reduction="none")
        (slope,) = torch.autograd.grad(losses.mean(1).sum(), leaf)
        probability = torch.exp(-losses.detach().sum(1))
        gradients = torch.einsum("nk,nkd->nd", slope, J)
        outer = torch.einsum("nd,ne->nde", gradients, gradients)
        expected += K * torch.einsum("n,nde->de", probability, outer) / N
    torch.testing.assert_close(matrix(steppe.Fisher(objective)), expected, **CLOSE)


@pytest.mark.parametrize("name", LOSSES)
def test_hessians_are_those_of_the_dense_mean_loss(name):
    objective, x, y = problem(name)
    model = objective.model
    outputs = problems.outputs_of(model, (x, None))

    def mean(vector):
        losses = F.binary_cross_entropy_with_logits(
            outputs(vector), y, reduction="none"
        )
        return (weights(name, y) * losses).mean()

    dense = torch.autograd.functional.hessian(mean, problems.flat(model))
    torch.testing.assert_close(matrix(steppe.Hessian(objective)), dense, **CLOSE)


@pytest.mark.parametrize("name", ["plain", "both", "weighted_margin"])
def test_the_mean_over_drawn_answers_is_the_exact_one(name):
    objective, exact = problem(name)[0], of_answers(name)
    v = torch.randn(len(exact), dtype=exact.dtype, generator=problems.generator())
    draws = torch.stack(
        [steppe.Fisher(objective, samples=8, seed=seed) @ v for seed in range(60)]
    )
    error = draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - exact @ v).abs() < 5 * error + 1e-12).all())
    assert float(error.norm()) < 0.2 * float((exact @ v).norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "both", "soft_margin"])
def test_traces_of_piecewise_linear_networks_are_exact(name):
    objective, *_ = problem(name, nn.ReLU)
    for kind in (steppe.Fisher, steppe.GGN, steppe.Hessian):
        H = kind(objective)
        estimate = steppe.trace(H)
        assert estimate.samples == 0
        assert estimate.value == pytest.approx(float(torch.trace(matrix(H))), rel=1e-9)
    layers = steppe.layer_traces(objective)
    assert layers.total == pytest.approx(float(torch.trace(matrix(H))), rel=1e-9)


def test_answers_of_another_shape_or_type_are_refused():
    model, (x, _) = problems.mlp(), problems.vectors(N)
    y = torch.ones(N, K, dtype=torch.float64)
    for name in ("plain", "function"):
        for wrong, rule in (
            (y[:, 0], r"targets of the shape of the outputs \(7, 3\), got \(7,\)"),
            (y[:, :2], r"shape of the outputs \(7, 3\), got \(7, 2\)"),
            (y.long(), r"give floating ones: targets.float\(\)"),
        ):
            with pytest.raises(DataError, match=rule):
                matrix(steppe.Fisher(Objective(model, (x, wrong), LOSSES[name])))


def test_negative_weights_and_losses_of_the_user_have_no_fisher_matrix():
    objective, x, y = problem("plain")
    negative = nn.BCEWithLogitsLoss(pos_weight=-POSITIVE, reduction="none")
    with pytest.raises(UsageError, match="weights of the answers must be >= 0"):
        matrix(steppe.Fisher(Objective(objective.model, (x, y), negative)))

    def summed(model, batch):
        outputs = model(batch[0])
        losses = F.binary_cross_entropy_with_logits(outputs, batch[1], reduction="none")
        return losses.sum(1)

    own = Objective(objective.model, (x, y), summed)
    with pytest.raises(UsageError, match=r"'summed' does not say.*BCEWith"):
        steppe.Fisher(own)
    torch.testing.assert_close(
        matrix(steppe.GGN(own)), K * of_answers("plain"), **CLOSE
    )
