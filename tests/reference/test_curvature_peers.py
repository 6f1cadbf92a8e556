"""Operators and algorithms against curvlinops, PyHessian and ARPACK."""

import copy
import functools
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh as arpack
from torch import nn

import problems
import steppe
from steppe.curvature.fisher import EmpiricalFisher, Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # curvlinops needs torch.jit
    import curvlinops
    import pyhessian

pytestmark = [
    pytest.mark.cross_library,
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]

SAME = {"rtol": 1e-10, "atol": 1e-10}
PAIRS = {
    "hessian": (Hessian, curvlinops.HessianLinearOperator),
    "ggn": (GGN, curvlinops.GGNLinearOperator),
    "fisher": (Fisher, curvlinops.GGNLinearOperator),  # one matrix for these losses
    "empirical fisher": (EmpiricalFisher, curvlinops.EFLinearOperator),
}
NETWORKS = ("tanh", "relu", "batch_norm", "tied")
BATCH = 3  # of seven samples: the last batch is short


def classes(name):
    """A network with its data, the loss here and the loss of the peers."""
    model, data = problems.networks()[name]
    return model, data, "cross_entropy", nn.CrossEntropyLoss()


def values():
    model, (x, _) = problems.networks()["tanh"]
    y = torch.randn((len(x), 3), generator=problems.generator(3)).double()
    return model, (x, y), "mse", nn.MSELoss()


def odds():
    model, (x, y) = problems.networks()["tanh"]
    one = nn.Sequential(model, problems.drawn(nn.Linear(3, 1)), nn.Flatten(0))
    ours, theirs = nn.BCEWithLogitsLoss(reduction="none"), nn.BCEWithLogitsLoss()
    return one, (x, (y > 0).double()), ours, theirs


CASES = {
    **{name: functools.partial(classes, name) for name in NETWORKS},
    "squared error": values,
    "binary cross entropy": odds,
}
# Of squared errors of C outputs, their empirical Fisher matrix has the factor 1 / C of
# the mean once, and not squared as the product of two gradients of the mean has.
# It takes no outputs that are one number each.
APART = [
    ("empirical fisher", "squared error"),
    ("empirical fisher", "binary cross entropy"),
]
COMPARED = [each for each in itertools.product(PAIRS, CASES) if each not in APART]


def batches(data):
    return list(zip(*(part.split(BATCH) for part in data), strict=True))


def pair(kind, case):
    """The operator of this library, and that of curvlinops on the same network."""
    model, data, ours, theirs = CASES[case]()
    here, there = PAIRS[kind]
    peer = copy.deepcopy(model).eval()
    # They take parameters that the outputs depend on, and no others.
    used = [p for name, p in peer.named_parameters() if name != "unused"]
    objective = problems.objective(model, data, BATCH, loss=ours)
    H = here(objective).block("[!u]*")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return H, there(peer, theirs, used, batches(data))


def dense(H):
    return H @ torch.eye(H.shape[0], dtype=torch.float64)


@pytest.mark.parametrize(("kind", "case"), COMPARED)
def test_matrices_are_those_of_curvlinops(kind, case):
    ours, theirs = pair(kind, case)
    found = dense(ours)
    torch.testing.assert_close(found, dense(theirs), **SAME)
    assert found.abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("which", ["LA", "BE"])
def test_their_operators_have_their_eigenpairs_found_as_they_are(which):
    ours, theirs = pair("hessian", "tanh")
    expected = steppe.eigsh(ours, 4, which=which, tol=1e-8)
    found = steppe.eigsh(theirs, 4, which=which, tol=1e-8)
    assert found.converged
    torch.testing.assert_close(found.values, expected.values, **SAME)
    cosines = (found.vectors * expected.vectors).sum(0).abs()
    torch.testing.assert_close(cosines, torch.ones(4).double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", ["tanh", "batch_norm"])
def test_their_operators_have_the_same_spectrum(case):
    ours, theirs = pair("hessian", case)
    expected, found = (steppe.spectrum(H, steps=12, k=2) for H in (ours, theirs))
    torch.testing.assert_close(found.nodes, expected.nodes, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.weights, expected.weights, rtol=1e-6, atol=1e-9)
    assert found.trace.value == pytest.approx(expected.trace.value, rel=1e-9)
    assert found.frobenius.value == pytest.approx(expected.frobenius.value, rel=1e-9)


def test_their_operators_have_the_same_trace_and_diagonal_from_the_same_draws():
    ours, theirs = pair("hessian", "tanh")
    expected, found = (
        steppe.trace(H, method="hutchinson", max_samples=20) for H in (ours, theirs)
    )
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-6)
    expected, found = (steppe.diagonal(H, max_samples=20) for H in (ours, theirs))
    torch.testing.assert_close(found.values, expected.values, **SAME)
    torch.testing.assert_close(found.stderr, expected.stderr, **SAME)


def test_their_operators_have_within_errors_what_is_known_exactly_here():
    ours, theirs = pair("hessian", "relu")
    exact, drawn = steppe.trace(ours), steppe.trace(theirs)
    assert exact.stderr == 0 < drawn.stderr
    assert abs(drawn.value - exact.value) < 4 * drawn.stderr


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["hutchinson_trace", "xtrace", "hutchpp_trace"])
def test_their_estimators_of_the_trace_take_our_operators(estimator):
    ours, _ = pair("hessian", "tanh")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        estimate = getattr(curvlinops, estimator)
        draws = torch.stack([estimate(ours, 30) for _ in range(12)])
    stderr = float(draws.std()) / math.sqrt(len(draws))
    assert abs(float(draws.mean() - dense(ours).trace())) < 4 * stderr


def test_their_estimator_of_the_diagonal_takes_our_operators():
    ours, _ = pair("hessian", "tanh")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = curvlinops.hutchinson_diag(ours, 80)
    found = steppe.diagonal(ours, min_samples=80, max_samples=80)
    exact = dense(ours).diag()
    # Both have the same number of draws, and so the same error.
    error, expected = float((theirs - exact).norm()), float(found.stderr.norm())
    assert 0.5 * expected < error < 2 * expected
    assert 0.5 * expected < float((found.values - exact).norm()) < 2 * expected


@pytest.mark.parametrize("which", ["LA", "SA"])
def test_arpack_finds_the_same_values(which):
    ours, _ = pair("hessian", "tanh")
    expected = steppe.eigsh(ours, 3, which=which, tol=1e-8)
    given = ours.to_scipy(dtype=np.float64)
    start = np.ones(given.shape[0])
    values = arpack(given, 3, which=which, return_eigenvectors=False, v0=start)
    descending = torch.from_numpy(np.sort(values)[::-1].copy())
    torch.testing.assert_close(descending, expected.values, **SAME)


@pytest.fixture
def doubles():
    """PyHessian draws its vectors in the default precision, from the global source."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(before)


def of_pyhessian(model, **data):
    peer = copy.deepcopy(model)
    return pyhessian.hessian(peer, nn.CrossEntropyLoss(), cuda=False, **data)


# Their graphs stay in .grad of their copy, as torch says in each backward pass.
of_theirs = pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")


@of_theirs
@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("mode", ["data", "dataloader"])
@pytest.mark.parametrize("name", ["tanh", "relu", "batch_norm"])
def test_the_largest_magnitude_is_that_of_pyhessian(name, mode):
    model, data = problems.networks()[name]
    given = data if mode == "data" else batches(data)  # by number of samples, as here
    theirs, vectors = of_pyhessian(model, **{mode: given}).eigenvalues(1000, 1e-10)
    ours = steppe.eigsh(
        Hessian(problems.objective(model, data, BATCH)), which="LM", tol=1e-8
    )
    # The power iteration stops on the change of the value, far from its own precision.
    assert theirs[0] == pytest.approx(float(ours.values[0]), rel=1e-5)
    cosine = ours.vectors[:, 0] @ torch.cat([part.flatten() for part in vectors[0]])
    assert abs(float(cosine)) == pytest.approx(1, abs=1e-2)


@of_theirs
@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("mode", ["data", "dataloader"])
def test_the_trace_is_that_of_pyhessian(mode):
    model, data = problems.networks()["tanh"]
    given = data if mode == "data" else batches(data)
    draws = of_pyhessian(model, **{mode: given}).trace(maxIter=60, tol=0)
    assert len(draws) == 60
    exact = float(dense(Hessian(problems.objective(model, data, BATCH))).trace())
    stderr = np.std(draws, ddof=1) / math.sqrt(len(draws))
    assert abs(np.mean(draws) - exact) < 4 * stderr
