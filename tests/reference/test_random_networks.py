"""Every matrix, every way of multiplying, against dense float64: right, or refused."""

import pytest
import torch
from torch import nn

import composite
import problems
import random_networks
from steppe.curvature.fisher import Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.curvature.per_sample.traces import exact_diagonal, layer_traces
from steppe.errors import SteppeError
from steppe.linalg.diagonal import diagonal
from steppe.linalg.lanczos import eigsh
from steppe.linalg.trace import trace
from steppe.objective import Objective
from steppe.parameters import flatten

EXACT, DIFFERENCES, RITZ = 1e-8, 1e-5, 1e-6  # relative, in float64
LOSSES = {
    "cross_entropy": "cross_entropy",
    "mse": "mse",
    "log_odds": nn.BCEWithLogitsLoss(reduction="none"),
}
# Among them each kind of layer that torch or this library once got wrong.
SAMPLE = (2, 4, 8, 16)
CHUNKS = [range(start, start + 25) for start in range(0, 350, 25)]


def questions(objective, dense, backends, V):
    """Name, call, right answer and tolerance of everything that can be asked."""
    yield "value", lambda: objective.value().value, dense.value, EXACT
    yield "gradient", lambda: flatten(objective.gradient()), dense.gradient, EXACT
    H = Hessian(objective)
    truths = (Hessian, dense.hessian), (GGN, dense.ggn), (Fisher, dense.ggn)
    for backend in backends:
        tol = DIFFERENCES if backend == "finite_difference" else EXACT
        for kind, truth in truths:
            name = f"{kind.kind} by {backend}"
            operator = kind(objective, backend=backend)
            yield name, lambda operator=operator: operator @ V, truth @ V, tol
    for kind, truth in truths:
        operator = kind(objective)
        yield (
            f"trace of {kind.kind}",
            lambda operator=operator: trace(operator, method="exact").value,
            truth.trace(),
            EXACT,
        )
    diag = dense.ggn.diagonal()
    yield "layer traces", lambda: layer_traces(objective).total, diag.sum(), EXACT
    yield "diagonal of ggn", lambda: exact_diagonal(objective), diag, EXACT
    yield (
        "diagonal of hessian",
        lambda: exact_diagonal(objective, hessian=True),
        dense.hessian.diagonal(),
        EXACT,
    )
    top = torch.linalg.eigvalsh(dense.hessian)[-1]
    yield "largest eigenvalue", lambda: eigsh(H, tol=1e-5).values[0], top, RITZ


def answer(ask):
    """What is answered, or None where that is refused."""
    try:
        return torch.as_tensor(ask(), dtype=torch.float64).detach()
    except SteppeError:
        return None


def answers(seed):
    """Names of what was asked, of what was answered and of what was wrong."""
    drawn = random_networks.network(seed)
    loss = random_networks.LOSSES[drawn.loss]
    dense = composite.Dense(
        random_networks.network(seed).model, drawn.data, loss, drawn.mode
    )
    objective = Objective(
        drawn.model, drawn.data, LOSSES[drawn.loss], mode=drawn.mode, batch_size=3
    )
    V = torch.randn(
        (len(dense.gradient), 3),
        generator=problems.generator(seed),
        dtype=torch.float64,
    )
    before = problems.state_of(drawn.model)
    right, wrong = [], []
    for name, ask, truth, tol in questions(objective, dense, drawn.backends, V):
        found = answer(ask)
        if found is None:
            continue
        scale = float(truth.abs().max())
        close = float((found - truth).abs().max()) <= tol * (scale + 1e-3)
        (right if close else wrong).append(f"{name} of network {drawn.text}")
    problems.assert_same(problems.state_of(drawn.model), before)
    return right, wrong


@pytest.mark.slow
@pytest.mark.parametrize("seed", SAMPLE)
def test_what_a_network_is_told_is_right_or_refused(seed):
    right, wrong = answers(seed)
    assert not wrong
    assert len(right) >= 2  # the loss and its gradient are never refused


@pytest.mark.slow
@pytest.mark.parametrize("seeds", CHUNKS, ids=str)
def test_what_many_networks_are_told_is_right_or_refused(seeds):
    results = [answers(seed) for seed in seeds]
    assert [fault for _, wrong in results for fault in wrong] == []
    assert sum(len(right) for right, _ in results) >= 12 * len(results)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 12])
def test_drawn_traces_and_diagonals_are_within_their_errors(seed):
    drawn = random_networks.network(seed)
    loss = random_networks.LOSSES[drawn.loss]
    dense = composite.Dense(
        random_networks.network(seed).model, drawn.data, loss, drawn.mode
    )
    objective = Objective(
        drawn.model, drawn.data, LOSSES[drawn.loss], mode=drawn.mode, batch_size=3
    )
    found = trace(Hessian(objective), method="hutchinson", rtol=0.05)
    assert abs(found.value - float(dense.hessian.trace())) < 4 * found.stderr
    entries = diagonal(Hessian(objective), rtol=0.2)
    apart = (entries.values - dense.hessian.diagonal()).norm()
    assert apart < 4 * entries.stderr.norm()
