"""Shares of a spectrum from few products, and errors that hold over seeds."""

import math

import pytest
import torch

import problems
from steppe.linalg.spectrum import spectrum
from steppe.results import Estimate

OUTLIERS = [10.0, 7.0, 5.0, -4.0]
DECAYING = (0.3 * torch.linspace(0, 1, 100, dtype=torch.float64) ** 4).tolist()
NEGATIVE = torch.linspace(-0.05, 0.0, 40, dtype=torch.float64).tolist()
NETWORK = [*OUTLIERS, *DECAYING, *NEGATIVE]
ZEROS = [*OUTLIERS, *torch.linspace(0.05, 0.5, 60).tolist(), *[0.0] * 200]
COPIES = [9.0, 9.0, 9.0, 6.0, *torch.linspace(-0.5, 0.5, 116).tolist()]
POWER = (30 * torch.arange(1, 161, dtype=torch.float64) ** -1.2).tolist()


class Traced:
    """A matrix that knows its trace without products."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    def __matmul__(self, other):
        return self.matrix @ other

    def exact_trace(self):
        return Estimate(value=float(self.matrix.trace()))


def spectra(values, seeds, wrap=lambda matrix: matrix, **settings):
    """Spectra of one matrix from other random vectors."""
    H = wrap(problems.symmetric(values))
    for seed in range(seeds):
        source = problems.generator(seed)
        yield spectrum(H, k=0, generator=source, **settings)


def share_at(found, value, near=1e-6):
    """Weight of the nodes at a value, per probe."""
    return (found.weights * ((found.nodes - value).abs() < near)).sum(1)


@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_outlier_is_one_eigenvalue_whatever_the_start(probes, dtype):
    one = torch.full((probes,), 1 / len(NETWORK), dtype=torch.float64)
    kind = {"steps": 40, "probes": probes, "wrap": lambda matrix: matrix.to(dtype)}
    for found in spectra(NETWORK, 10, **kind):
        for value in OUTLIERS:
            assert torch.equal(share_at(found, value, 1e-4), one)


@pytest.mark.slow
@pytest.mark.parametrize("probes", [1, 3])
def test_zeros_are_as_many_as_their_weight_says(probes):
    for found in spectra(ZEROS, 10, steps=60, probes=probes):
        assert bool((~found.single[found.nodes.abs() < 1e-6]).all())
        count = float(share_at(found, 0.0).mean()) * len(ZEROS)
        assert abs(count - 200) < 4 * math.sqrt(2 * 200 / probes)


def test_two_probes_tell_copies_from_one_eigenvalue():
    for found in spectra(COPIES, 20, steps=40, probes=2):
        nines, six = (found.nodes - 9).abs() < 1e-6, (found.nodes - 6).abs() < 1e-6
        assert not bool(found.single[nines].any())
        assert bool(found.single[six].all())
        count = found.mean(lambda nodes: (nodes > 8).double())
        assert abs(count.value * len(COPIES) - 3) < 4 * count.stderr * len(COPIES)


def test_the_first_moment_is_the_known_trace():
    trace = sum(NETWORK) / len(NETWORK)
    for found in spectra(NETWORK, 5, Traced, steps=40, probes=3):
        mean = float((found.weights * found.nodes).sum(1).mean())
        assert mean == pytest.approx(trace, rel=1e-9)
        assert float((found.weights.sum(1) - 1).abs().max()) < 1e-12
        assert bool((found.weights >= 0).all())


def coverage(values, seeds, wrap, **settings):
    """Share of the intervals of the effective dimension that hold the true one."""
    positive = torch.tensor(values, dtype=torch.float64).clamp(min=0)
    true = float((positive / (positive + 0.01 * positive.max())).sum())
    found = [
        each.effective_dimension() for each in spectra(values, seeds, wrap, **settings)
    ]
    return sum(abs(e.value - true) < 1.96 * e.stderr for e in found) / seeds


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda matrix: matrix, Traced])
@pytest.mark.parametrize(
    ("values", "steps", "probes"),
    [(NETWORK, 30, 1), (NETWORK, 40, 4), (ZEROS, 40, 1), (POWER, 30, 2)],
)
def test_errors_hold_over_two_hundred_seeds(values, steps, probes, wrap):
    share = coverage(values, 200, wrap, steps=steps, probes=probes)
    assert 0.88 <= share <= 0.99


@pytest.mark.slow
def test_the_error_of_one_probe_holds_over_seeds():
    assert 0.88 <= coverage(NETWORK, 100, Traced, steps=25, probes=1) <= 0.99


def test_the_effective_dimension_is_that_of_a_loss_in_any_units():
    (one,) = spectra(NETWORK, 1, steps=30)
    (other,) = spectra(NETWORK, 1, lambda matrix: 1000 * matrix, steps=30)
    dimension = one.effective_dimension()
    assert dimension.details["alpha"] == pytest.approx(0.1)
    assert other.effective_dimension().value == pytest.approx(dimension.value)
    assert other.effective_dimension().stderr == pytest.approx(dimension.stderr)
