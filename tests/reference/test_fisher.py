"""Fisher products against dense outer products of gradients and closed forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.curvature.fisher import EmpiricalFisher, Fisher
from steppe.curvature.ggn import GGN
from steppe.errors import SettingError, UsageError
from steppe.objective import Objective

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def matrix(H):
    return H @ torch.eye(H.shape[0], dtype=H.dtype)


def outer_products(model, data, mode="eval", batch_size=3):
    """Mean outer product of the gradients of single losses, (D, D)."""
    outputs, (_, y) = problems.outputs_of(model, data, mode, batch_size), data
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        G = torch.autograd.functional.jacobian(
            lambda vector: F.cross_entropy(outputs(vector), y, reduction="none"),
            problems.flat(model),
        )
    return G.T @ G / len(y)


@pytest.mark.parametrize(
    "mode", ["eval", pytest.param("train", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", problems.networks())
def test_empirical_products_are_those_of_dense_gradients(name, mode):
    model, data = problems.networks()[name]
    E = EmpiricalFisher(problems.objective(model, data, mode=mode))
    torch.testing.assert_close(matrix(E), outer_products(model, data, mode), **CLOSE)


def test_the_empirical_one_takes_models_that_compute_their_loss():
    A = problems.symmetric([3.0, 1.0, 0.5])
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    z = torch.randn(5, 3, dtype=torch.float64, generator=problems.generator())
    model = problems.Quadratic(A, start)
    E = EmpiricalFisher(Objective(model, [z[:3], z[3:]], loss=lambda m, z: m(z)))
    gradients = (start - z) @ A
    torch.testing.assert_close(matrix(E), gradients.T @ gradients / 5, **CLOSE)


LIKELIHOODS = {
    "cross_entropy": ("cross_entropy", problems.mlp, lambda x, y: y),
    "mse": ("mse", problems.mlp, lambda x, y: x[:, :3]),
    "bce": (
        nn.BCEWithLogitsLoss(reduction="none"),
        lambda: nn.Sequential(problems.linear(1), nn.Flatten(0)),
        lambda x, y: (y > 0).double(),
    ),
}


def known(name):
    loss, make, targets = LIKELIHOODS[name]
    x, y = problems.vectors()
    return problems.objective(make(), (x, targets(x, y)), loss=loss)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_exact_one_is_the_gauss_newton_matrix(name):
    objective = known(name)
    torch.testing.assert_close(
        matrix(Fisher(objective)), matrix(GGN(objective)), **CLOSE
    )


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_mean_over_seeds_is_the_exact_one(name):
    objective = known(name)
    exact = Fisher(objective)
    v = torch.randn(exact.shape[0], dtype=exact.dtype, generator=problems.generator())
    draws = torch.stack(
        [Fisher(objective, samples=4, seed=seed) @ v for seed in range(60)]
    )
    error = draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - exact @ v).abs() < 5 * error + 1e-12).all())
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.slow
def test_many_samples_come_near_the_exact_one():
    objective = known("cross_entropy")
    exact, drawn = matrix(Fisher(objective)), matrix(Fisher(objective, samples=4000))
    assert (drawn - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("budget", [0, 2**31])
def test_drawn_targets_stay_so_that_the_matrix_is_symmetric(budget):
    objective = known("cross_entropy")
    first = matrix(Fisher(objective, samples=1, seed=3, budget=budget))
    again = matrix(Fisher(objective, samples=1, seed=3))
    torch.testing.assert_close(first, first.T, **CLOSE)
    assert torch.equal(first, again)
    values = torch.linalg.eigvalsh(first)
    assert values.min() > -1e-12
    assert int((values > 1e-12).sum()) == 7  # one gradient for each row


def test_one_sample_is_the_empirical_one_at_some_classes():
    model, (x, y) = problems.mlp(), problems.vectors(n=2)
    drawn = matrix(Fisher(problems.objective(model, (x, y)), samples=1, seed=3))
    every = [
        outer_products(model, (x, classes))
        for classes in torch.cartesian_prod(torch.arange(3), torch.arange(3))
    ]
    matches = [torch.allclose(drawn, one, rtol=1e-8, atol=1e-10) for one in every]
    assert sum(matches) == 1


@pytest.mark.slow
def test_log_probabilities_have_the_fisher_of_their_classes():
    x, y = problems.vectors()
    logits = problems.mlp()
    model = nn.Sequential(logits, nn.LogSoftmax(1))
    nll = problems.objective(model, (x, y), loss=nn.NLLLoss(reduction="none"))
    plain = problems.objective(logits, (x, y))
    expected = matrix(GGN(plain))
    torch.testing.assert_close(matrix(Fisher(nll)), expected, **CLOSE)
    assert not matrix(GGN(nll)).any()
    drawn = Fisher(nll, samples=2, seed=1), Fisher(plain, samples=2, seed=1)
    torch.testing.assert_close(matrix(drawn[0]), matrix(drawn[1]), **CLOSE)


@pytest.mark.parametrize("samples", [None, 3])
def test_ignored_targets_have_no_part_in_it(samples):
    x, y = problems.vectors()
    y[[1, 4, 5]] = -100
    model = problems.mlp()
    some = Fisher(problems.objective(model, (x, y), batch_size=7), samples=samples)
    kept = y >= 0
    left = problems.objective(model, (x[kept], y[kept]), batch_size=7)
    expected = Fisher(left)
    if samples is None:
        torch.testing.assert_close(matrix(some), matrix(expected), **CLOSE)
    else:
        assert int((torch.linalg.eigvalsh(matrix(some)) > 1e-12).sum()) <= 4 * samples


def test_positions_of_a_sequence_are_rows_of_their_own():
    x, _ = problems.vectors(shape=(4, 2))
    y = torch.randint(3, (7, 2), generator=problems.generator())
    model = problems.drawn(nn.Conv1d(4, 3, 1))
    objective = problems.objective(model, (x, y))
    torch.testing.assert_close(
        matrix(Fisher(objective)), matrix(GGN(objective)), **CLOSE
    )


@pytest.mark.slow
def test_draws_for_positions_of_a_sequence_are_the_exact_matrix_on_average():
    x, _ = problems.vectors(shape=(4, 2))
    y = torch.randint(3, (7, 2), generator=problems.generator())
    objective = problems.objective(problems.drawn(nn.Conv1d(4, 3, 1)), (x, y))
    drawn, exact = matrix(Fisher(objective, samples=3000)), matrix(Fisher(objective))
    assert (drawn - exact).norm() < 0.05 * exact.norm()


def test_unknown_distributions_and_sample_numbers_are_refused():
    x, _ = problems.vectors()
    unknown = Objective(problems.mlp(), [x], loss=lambda m, x: m(x).square().sum(1))
    with pytest.raises(UsageError, match=r"'<lambda>' does not say.*EmpiricalFisher"):
        Fisher(unknown)
    with pytest.raises(SettingError, match="samples must be >= 1 or None, got 0"):
        Fisher(known("mse"), samples=0)
