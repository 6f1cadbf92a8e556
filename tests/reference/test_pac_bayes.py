"""Noise that raises a loss by eps: closed forms on quadratics, with the same draws."""

import copy
import math

import pytest
import torch

import problems
from coverage import coverage, objective_of, quadratic
from steppe.errors import SettingError, UsageError
from steppe.measures import Measurement, PACBayes, PACBayesBound, measure
from steppe.objective import Objective
from steppe.symmetries.balancing import Balanced

D = 40
A = problems.symmetric(torch.linspace(0.5, 2.0, D))
ZERO = torch.zeros(D, dtype=torch.float64)
START = torch.full((D,), 0.05, dtype=torch.float64)
EPS = 0.1


def draws(measurement, count):
    """The standard noise of the first draws, from the streams as they are defined."""
    sources = [measurement.stream("perturbation", m) for m in range(count)]
    noise = [torch.empty(D, dtype=torch.float64) for _ in sources]
    return torch.stack(
        [n.normal_(generator=s) for n, s in zip(noise, sources, strict=True)]
    )


@pytest.mark.parametrize("start", [ZERO, START, 10 * START], ids=["0", "1", "10"])
def test_sigma_is_the_root_of_the_mean_rise_over_its_draws(start):
    measurement = Measurement(quadratic(A, start), seed=2)
    found = PACBayes().within(measurement)
    z = draws(measurement, 10)
    slope, curvature = float((z @ A @ start).mean()), float((z @ A * z).sum(1).mean())
    root = (-slope + math.sqrt(slope**2 + 2 * curvature * EPS)) / curvature
    assert found.value == pytest.approx(root, rel=1e-4)
    rises = found.value * (z @ A @ start) + found.value**2 / 2 * (z @ A * z).sum(1)
    steepness = slope + found.value * curvature
    error = float(rises.std()) / 10**0.5 / steepness
    assert found.stderr == pytest.approx(error, rel=0.05)


@pytest.mark.slow
def test_at_a_minimum_sigma_squared_is_two_eps_over_the_trace():
    found = PACBayes(samples=2000)(quadratic(A, ZERO))
    expected = math.sqrt(2 * EPS / float(A.trace()))
    assert abs(found.value - expected) < 4 * found.stderr < 0.02 * expected


def test_it_takes_at_most_a_fifth_of_the_passes_of_the_published_search():
    for start in (ZERO, START):
        objective = quadratic(A, start)
        good, published = (
            PACBayes(variant=variant)(objective) for variant in ("correct", "published")
        )
        assert published.cost.forwards >= 250
        assert good.cost.forwards <= published.cost.forwards / 5
        assert abs(good.value - published.value) < 5 * good.stderr


@pytest.mark.slow
@pytest.mark.parametrize("start", [ZERO, START], ids=["minimum", "slope"])
def test_standard_errors_of_some_seeds_cover_the_truth(start):
    truth = math.sqrt(2 * EPS / float(A.trace()))
    share, _ = coverage(PACBayes(), quadratic(A, start), truth, 150)
    assert share > 0.89  # 3.4 binomial deviations below 0.95


@pytest.mark.slow
@pytest.mark.parametrize("start", [ZERO, START], ids=["minimum", "slope"])
def test_standard_errors_cover_the_truth_as_often_as_they_say(start):
    truth = math.sqrt(2 * EPS / float(A.trace()))
    share, found = coverage(PACBayes(), quadratic(A, start), truth, 2000)
    assert 0.93 <= share <= 0.97
    assert sum(e.cost.forwards for e in found) / 2000 < 54


def test_the_scale_is_that_of_the_noise():
    model, data = problems.cnn(), problems.vectors(shape=(1, 4, 4))
    here = PACBayes(scale="balanced")(problems.objective(model, data))
    there = PACBayes()(problems.objective(Balanced(model), data))
    assert here.value == pytest.approx(there.value, rel=1e-9)


class Bounded(torch.nn.Module):
    """A loss that rises by at most 0.01."""

    def __init__(self, factor=0.01):
        super().__init__()
        self.factor = factor
        self.w = torch.nn.Parameter(torch.zeros(3).double())

    def forward(self, _):
        return self.factor * torch.tanh(self.w.square().sum())[None]


def test_a_rise_that_no_noise_reaches_is_refused():
    with pytest.raises(UsageError, match=r"between 1e-12 and 100, .* smaller eps"):
        PACBayes()(objective_of(Bounded()))
    with pytest.raises(UsageError, match=r"between 1e-12 and 100, .* larger eps"):
        PACBayes(eps=1e-30)(objective_of(problems.Quadratic(A * 1e6, ZERO)))
    found = PACBayes(variant="published")(objective_of(Bounded()))
    assert found.value == pytest.approx(100, abs=1e-4)  # without a word


class Exploding(torch.nn.Module):
    """A quadratic that is not finite beyond a tiny distance, and flat below 0."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(3).double())

    def forward(self, _):
        squared = self.w.square().sum()
        return torch.where(squared < 1e-8, 1e9 * squared, math.nan)[None]


def test_points_where_the_loss_is_not_finite_count_as_above():
    found = PACBayes()(objective_of(Exploding()))
    assert found.converged
    assert 1e-6 < found.value < 1e-4


def test_the_bound_is_its_formula_and_its_error_that_of_sigma():
    model, data = problems.mlp(), problems.vectors()
    start = copy.deepcopy(model)
    with torch.no_grad():
        for p in start.parameters():
            p.add_(0.3)
    objective = problems.objective(model, data)
    sigma, bound = measure(
        objective, ["pac_bayes", "pac_bayes_bound"], start=start
    ).values()
    count = sum(p.numel() for p in model.parameters())
    distance = count * 0.3**2 / (4 * sigma.value**2)
    expected = distance + math.log(2 * 7 / 1e-6)
    assert bound.value == pytest.approx(expected, rel=1e-9)
    relative = 2 * sigma.stderr / sigma.value
    assert bound.stderr == pytest.approx(distance * relative, rel=1e-9)
    assert bound.details["sigma"] == sigma.value
    balanced = PACBayesBound(scale="balanced")(objective, start=start)
    coordinates = Balanced(model)
    moved = sum(
        float((0.3 / scale).square().expand_as(p).sum())
        for scale, p in zip(coordinates.scales, model.parameters(), strict=True)
    )
    expected = moved / (4 * balanced.details["sigma"] ** 2) + math.log(14e6)
    assert balanced.value == pytest.approx(expected, rel=1e-9)


def test_the_published_bound_takes_the_start_for_zero():
    objective = Objective(
        problems.Quadratic(A, START),
        [torch.zeros((5, D)).double()],
        loss=lambda model, z: model(z),
    )
    found = PACBayesBound(variant="published")(objective)
    squared = float(START.square().sum()) / (4 * found.details["sigma"] ** 2)
    assert found.value == pytest.approx(squared + math.log(10 / 1e-6), rel=1e-12)
    with pytest.raises(UsageError, match="start="):
        PACBayesBound()(objective)


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match="delta must be > 0 and < 1, got 1"):
        PACBayesBound(delta=1.0)
    with pytest.raises(SettingError, match="variant must be"):
        PACBayes(variant="paper")
