"""Local entropy and its gradient: closed forms on quadratics, quadrature elsewhere."""

import math

import pytest
import torch

import problems
from coverage import coverage, objective_of, quadratic
from steppe.errors import UsageError
from steppe.measures import LocalEntropy, LocalEntropyGradient, Measurement
from steppe.measures.perturbed.local_entropy_gradient import _squared_norm
from steppe.results import Estimate

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, 0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
ONE = torch.eye(5, dtype=torch.float64)
ZERO = torch.zeros(5, dtype=torch.float64)
GAMMA = 20.0


def entropy(gamma, start=START):
    """-log of the Gaussian integral of exp(-L)."""
    inverse = torch.linalg.inv(A + gamma * ONE)
    middle = gamma * start @ A @ inverse @ start / 2
    volume = torch.logdet(A + gamma * ONE) / 2 - 5 / 2 * math.log(2 * math.pi)
    return float(middle + volume)


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [5.0, 100.0])
def test_it_is_the_closed_form_on_a_quadratic(gamma):
    found = LocalEntropy(gamma=gamma, samples=4000)(quadratic(A, START))
    assert abs(found.value - entropy(gamma)) < 4 * found.stderr < 0.2


@pytest.mark.parametrize(
    ("repeats", "margin"),
    [(400, 0.038), pytest.param(2000, 0.02, marks=pytest.mark.slow)],
)
def test_standard_errors_cover_the_truth_as_often_as_they_say(repeats, margin):
    measure = LocalEntropy(gamma=100.0, samples=12)
    truth = entropy(100, START / 2)
    share, _ = coverage(measure, quadratic(A, 0.5 * START), truth, repeats)
    assert abs(share - 0.95) <= margin


def test_one_draw_with_all_of_the_weight_is_no_mean():
    """In many dimensions the error of the logarithm is 1, however far off it is."""
    steep = 40 * torch.eye(500).double()
    found = LocalEntropy(gamma=1.0)(quadratic(steep, torch.zeros(500).double()))
    volume = 500 / 2 * math.log(41 / (2 * math.pi))
    assert found.value - volume > 100 * found.stderr
    assert not found.converged
    assert LocalEntropy(gamma=4000.0)(
        quadratic(steep, torch.zeros(500).double())
    ).converged


def test_the_parts_are_among_the_details():
    found = LocalEntropy(gamma=GAMMA, samples=50)(quadratic(A, START))
    constant = 5 / 2 * math.log(GAMMA / (2 * math.pi))
    assert found.details["constant"] == pytest.approx(constant, rel=1e-12)
    total = found.details["free_energy"] + constant
    assert found.value == pytest.approx(total, rel=1e-12)


def test_the_published_one_is_that_of_less_noise_with_another_constant():
    measurement = Measurement(quadratic(A, START))
    found = LocalEntropy(gamma=GAMMA, samples=30, variant="published").within(
        measurement
    )
    losses = []
    for number in range(30):
        source = measurement.stream("perturbation", number)
        z = torch.empty(5, dtype=torch.float64).normal_(generator=source)
        moved = START + z / GAMMA
        losses.append(moved @ A @ moved / 2)
    energy = -torch.logsumexp(-torch.stack(losses), 0) + math.log(30)
    constant = math.log(GAMMA) / 2 - 5 / 2 * math.log(2 * math.pi)
    assert found.value == pytest.approx(float(energy) + constant, rel=1e-12)


def test_losses_as_large_as_those_of_a_broken_network_do_not_overflow():
    found = LocalEntropy(samples=10)(quadratic(A * 1e6, START))
    assert math.isfinite(found.value)
    assert math.isfinite(found.stderr)


def gradient(gamma, start=START):
    return float((gamma * A @ torch.linalg.inv(A + gamma * ONE) @ start).norm())


def test_the_gradient_is_the_closed_form_on_a_quadratic_without_any_noise():
    for gamma in (5.0, 100.0):
        measure = LocalEntropyGradient(gamma=gamma, steps=80)
        found = measure(quadratic(A, START))
        assert found.value == pytest.approx(gradient(gamma), rel=1e-9)
        assert found.stderr < 1e-6 * found.value
    short = LocalEntropyGradient()(quadratic(A, START))
    assert short.value == pytest.approx(gradient(100.0), rel=1e-3)


def test_at_a_minimum_it_is_zero_and_the_published_one_is_the_noise():
    assert LocalEntropyGradient()(quadratic(A, ZERO)).value < 1e-12
    counts = {}
    for d in (20, 2000):
        flat = torch.zeros(d, dtype=torch.float64)
        objective = quadratic(torch.eye(d, dtype=torch.float64), flat)
        found = LocalEntropyGradient(variant="published")(objective)
        counts[d] = found.value
    # It grows with the root of the number of parameters.
    assert counts[2000] / counts[20] == pytest.approx(10, rel=0.3)


def test_the_published_chain_is_that_of_its_recursion():
    measurement = Measurement(quadratic(A, START))
    found = LocalEntropyGradient(variant="published").within(measurement)
    source = measurement.stream("published chain", 0)
    w, mean = START.clone(), START.clone()
    for _ in range(20):
        noise = torch.empty(5, dtype=torch.float64).normal_(generator=source)
        force = A @ w - 1e-4 * (START - w) - 1e-4 / math.sqrt(0.5 * 0.1) * noise
        w = w - 0.1 * force
        mean = 0.75 * mean + 0.25 * w
    assert found.value == pytest.approx(float((START - mean).norm()), rel=1e-12)
    assert found.stderr == math.inf
    assert found.cost.gradients == 20


class Quartic(torch.nn.Module):
    """Separable: w^4 / 4 + w^2 / 2 for each weight."""

    def __init__(self, start):
        super().__init__()
        self.w = torch.nn.Parameter(start.clone())

    def forward(self, _):
        return (self.w.pow(4) / 4 + self.w.square() / 2).sum()[None]


def by_quadrature(start, gamma):
    x = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    pulls = []
    for s in start.tolist():
        energy = x**4 / 4 + x**2 / 2 + gamma / 2 * (x - s) ** 2
        density = torch.exp(energy.min() - energy)
        pulls.append(gamma * (s - float((density * x).sum() / density.sum())))
    return float(torch.tensor(pulls).norm())


WEIGHTS = torch.linspace(0.5, 1.5, 10, dtype=torch.float64)


def test_the_gradient_of_a_quartic_is_that_of_quadrature():
    truth = by_quadrature(WEIGHTS, 4.0)
    found = LocalEntropyGradient(gamma=4.0, steps=60, pairs=10)(
        objective_of(Quartic(WEIGHTS))
    )
    assert abs(found.value - truth) < 4 * found.stderr
    assert found.stderr < 0.02 * truth


@pytest.mark.slow
def test_standard_errors_of_the_gradient_cover_the_truth_as_often_as_they_say():
    measure = LocalEntropyGradient(gamma=4.0, steps=20)
    objective = objective_of(Quartic(WEIGHTS))
    share, _ = coverage(measure, objective, by_quadrature(WEIGHTS, 4.0), 2000)
    assert 0.93 <= share <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [4, 8])
def test_the_error_of_a_squared_norm_covers_it_as_often_as_it_says(pairs):
    truth = torch.linspace(-1, 1, 30, dtype=torch.float64)
    source = problems.generator(3)
    inside, values = 0, []
    for _ in range(2000):
        noise = torch.randn((pairs, 30), generator=source, dtype=torch.float64)
        value, error = _squared_norm(truth + 0.1 * noise)
        low, high = Estimate(value=value, stderr=error, samples=pairs).interval()
        inside += low <= float(truth.square().sum()) <= high
        values.append(value)
    assert 0.93 <= inside / 2000 <= 0.97
    mean = torch.tensor(values).mean()
    assert float(mean) == pytest.approx(float(truth.square().sum()), rel=0.005)


def test_chains_that_diverge_are_refused():
    with pytest.raises(UsageError, match=r"diverged at step .* smaller step_size"):
        LocalEntropyGradient(gamma=1e-3, steps=400)(quadratic(A * 1e6, START))
