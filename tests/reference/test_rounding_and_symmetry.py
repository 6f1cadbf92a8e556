"""Rounding is not taken for a wrong derivative, however much of it there is."""

import copy
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import composite
import problems
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.errors import UsageError
from steppe.linalg.diagonal import diagonal
from steppe.linalg.lanczos import eigsh
from steppe.linalg.operators import Identity
from steppe.linalg.trace import trace
from steppe.objective import Objective

DRAWS = {"min_samples": 20, "max_samples": 20}
FITS = [  # activation, dtype, factor of the last layer after some training
    (nn.Tanh, torch.float32, 2.0),
    (nn.ReLU, torch.float32, 1.5),
    (nn.Tanh, torch.float64, 4.0),
    (nn.ReLU, torch.float64, 4.0),
]


def data(dtype=torch.float32, shift=0.0, scale=1.0):
    source = problems.generator(1)
    x = torch.randn(32, 8, dtype=torch.float64, generator=source)
    return (x * scale + shift).to(dtype), torch.randint(4, (32,), generator=source)


def network(*between, dtype=torch.float32):
    model = nn.Sequential(nn.Linear(8, 16), *between, nn.Linear(16, 4))
    return problems.drawn(model).to(dtype)


@cache
def fitted(activation=nn.Tanh, dtype=torch.float32, factor=2.0):
    """A network whose probabilities are the targets but for about 1e-6, or 1e-13."""
    model, (x, y) = network(activation(), dtype=dtype), data(dtype)
    adam = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(300):
        adam.zero_grad()
        F.cross_entropy(model(x), y).backward()
        adam.step()
    with torch.no_grad():
        for p in model[-1].parameters():
            p.mul_(factor)
    return model, (x, y)


def exact(model, pair, kind="hessian", mode="eval"):
    """The dense matrix of a float64 copy, by elementary operations."""
    wide, loss = (pair[0].double(), pair[1]), composite.cross_entropy
    model = copy.deepcopy(model).double()
    dense = composite.Dense(model, wide, loss, mode, batch_size=len(pair[0]))
    return getattr(dense, kind)


def assert_measured(H, truth, rtol):
    top = torch.linalg.eigvalsh(truth)[-1]
    torch.testing.assert_close(eigsh(H, tol=1e-2).values[0], top, rtol=rtol, atol=0)
    drawn = trace(H, method="hutchinson", **DRAWS)
    assert abs(drawn.value - float(truth.trace())) < 5 * drawn.stderr
    assert diagonal(H, **DRAWS).values.isfinite().all()


@pytest.mark.parametrize("kind", [Hessian, GGN])
@pytest.mark.parametrize("fit", FITS)
def test_networks_that_fit_closely_are_measured(fit, kind):
    model, pair = fitted(*fit)
    assert_measured(kind(Objective(model, pair)), exact(model, pair, kind.kind), 0.03)


def test_sums_with_the_hessian_of_a_close_fit_are_measured():
    model, pair = fitted()
    size = float(torch.linalg.eigvalsh(exact(model, pair))[-1])
    H = 0.5 * Hessian(Objective(model, pair))
    shifted = H + size * Identity(H.shape[0])
    torch.testing.assert_close(
        eigsh(shifted, tol=1e-2).values[0].item(), 1.5 * size, rtol=0.03, atol=0
    )
    assert trace(H, method="hutchinson", **DRAWS).samples == 20


class Cast(nn.Module):
    """A network that computes in bfloat16 by itself, with parameters in float32."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x).to(x.dtype)


@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_a_forward_pass_under_its_own_autocast_is_measured(kind):
    model, pair = network(nn.Tanh()), data()
    truth = exact(model, pair, kind.kind)
    assert_measured(kind(Objective(Cast(model), pair)), truth, 0.05)


def deep():
    return network(nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 16), nn.BatchNorm1d(16))


DIFFERENCES = {
    "large inputs": lambda: (network(nn.Tanh()), data(scale=30.0)),
    "batch norm": lambda: (deep(), data()),
    "close fit": lambda: fitted(nn.Tanh, torch.float32, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", DIFFERENCES)
def test_finite_differences_in_float32_are_measured(case):
    model, pair = DIFFERENCES[case]()
    objective = Objective(model, pair, mode="train")
    H = Hessian(objective, backend="finite_difference")
    assert_measured(H, exact(model, pair, mode="train"), 0.05)


def test_batch_statistics_of_inputs_far_from_zero_are_measured():
    model = network(nn.BatchNorm1d(16), nn.Tanh())
    pair = data(shift=1000.0)
    H = Hessian(Objective(model, pair, mode="train"))
    assert_measured(H, exact(model, pair, mode="train"), 0.05)


class Cut(nn.Module):
    """The identity; of its gradient, a share has lost how it depends on the weights."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        y = x.clone()
        if y.requires_grad:
            y.register_hook(lambda g: g + self.share * (g.detach() - g))
        return y


class Fixed(nn.Module):
    """Cannot be copied."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __deepcopy__(self, memo):
        raise RuntimeError("there is one of me")

    def forward(self, x):
        return self.inner(x)


def cut(share, dtype, factor=1.0):
    """A network with `Cut`, and data that it fits closely for a large factor."""
    model = network(nn.Tanh(), Cut(share), nn.Linear(16, 16), nn.Tanh(), dtype=dtype)
    x, _ = data(dtype)
    with torch.no_grad():
        model[-1].weight.mul_(factor)
        return model, (x, model(x).argmax(1))


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [(Hessian, eigsh), (Hessian, trace), (Hessian, diagonal), (GGN, eigsh)],
)
@pytest.mark.parametrize(
    ("share", "dtype", "factor"),
    [
        (1.0, torch.float32, 1.0),
        (0.02, torch.float32, 1.0),
        (0.02, torch.float64, 1.0),
        (0.5, torch.float32, 8.0),
        (0.5, torch.float64, 8.0),
    ],
)
def test_wrong_derivatives_are_refused(share, dtype, factor, kind, algorithm):
    H = kind(Objective(*cut(share, dtype, factor)))
    with pytest.raises(UsageError, match="the operator is not symmetric"):
        algorithm(H)
    with pytest.raises(UsageError, match="the operator is not symmetric"):
        algorithm(H + Identity(H.shape[0], dtype=dtype))


def test_a_model_that_cannot_be_copied_is_refused_where_it_is_far_from_symmetric():
    model, pair = fitted()
    H = Hessian(Objective(Fixed(model), pair))
    assert_measured(H, exact(model, pair), 0.03)
    model, pair = cut(1.0, torch.float32)
    with pytest.raises(UsageError, match=r"not symmetric.*measure in float64"):
        eigsh(Hessian(Objective(Fixed(model), pair)))


@pytest.mark.slow
def test_products_that_are_mostly_rounding_are_refused_and_fit_for_float64():
    model, (x, y) = fitted(nn.ReLU, torch.float32, 3.0)
    with pytest.raises(UsageError, match=r"rounding is too large.*float64"):
        eigsh(Hessian(Objective(model, (x, y))), tol=1e-2)
    wide = copy.deepcopy(model).double(), (x.double(), y)
    assert_measured(Hessian(Objective(*wide)), exact(model, (x, y)), 0.03)


def test_looking_at_a_copy_leaves_no_trace():
    model, pair = fitted()
    before, state = problems.state_of(model), torch.get_rng_state()
    H = Hessian(Objective(model, pair))
    trace(H, method="hutchinson", **DRAWS)
    assert H.symmetric_in_float64()
    problems.assert_same(problems.state_of(model), before)
    assert torch.equal(torch.get_rng_state(), state)
