"""Noise that changes the accuracy: a linear classifier has a closed form.

With the weights (a, -a) on each of D unit vectors, noise of the deviation sigma leaves
the class of a sample with the probability Phi(sqrt(2) a / sigma).
"""

import math
from statistics import NormalDist

import pytest
import torch
from torch import nn

import problems
from steppe.errors import SettingError, UsageError
from steppe.measures import PACBayesComplexity, PACBayesFlatness
from steppe.measures.measurement import Measurement
from steppe.measures.needs.points.perturbed import RandomPoint
from steppe.objective import Objective

A, D = 0.3, 400


def classifier(a=A, size=D):
    model = nn.Linear(size, 2, bias=False).double()
    with torch.no_grad():
        model.weight[0], model.weight[1] = a, -a
    data = (torch.eye(size).double(), torch.zeros(size).long())
    return Objective(model, data, batch_size=size)


def sigma_at(change):
    return math.sqrt(2) * A / -NormalDist().inv_cdf(change)


@pytest.mark.parametrize("change", [0.1, 0.25])
def test_the_deviation_is_that_of_the_closed_form(change):
    objective = classifier()
    measured = PACBayesFlatness(change=change)(objective)
    value = sigma_at(change) ** -2
    assert measured.value == pytest.approx(value, abs=4 * measured.stderr)
    assert measured.stderr < 0.1 * value
    assert measured.converged
    assert measured.details["evaluations"] <= 8
    adjusted = math.sqrt(measured.value / D)
    assert measured.details["adjusted"] == pytest.approx(adjusted)


def test_the_published_search_returns_the_root_of_the_deviation():
    measured = PACBayesFlatness(variant="published")(classifier())
    # Its noise has the deviation sigma^2.
    assert measured.details["sigma"] ** 2 == pytest.approx(sigma_at(0.1), rel=0.15)
    assert measured.details["evaluations"] <= 15


def test_magnitude_aware_noise_is_in_units_of_the_weights():
    # All weights are alike, so that it is noise of one deviation.
    measured = PACBayesFlatness(magnitude_aware=True)(classifier())
    sigma = math.sqrt(sigma_at(0.1) ** 2 - 1e-6) / A
    assert measured.value == pytest.approx(sigma**-2, abs=4 * measured.stderr)


def test_a_floor_is_added_in_squares():
    objective = problems.objective(problems.mlp(), problems.vectors())
    point = RandomPoint(0, 0.3, "adaptive", floor=0.4)
    weights = [p.detach().abs() for p in objective.params]
    for size, w in zip(point.sizes(weights), weights, strict=True):
        torch.testing.assert_close(size, torch.sqrt(0.09 * w**2 + 0.16))
    assert RandomPoint(0, 0.3).sizes([1.0]) == [0.3]
    with_floor, without = (
        Measurement(objective).of(RandomPoint(0, 0.0, floor=floor)).loss
        for floor in (0.2, 0.0)
    )
    raw = Measurement(objective).of(RandomPoint(0, 0.2)).loss
    assert with_floor == pytest.approx(raw, rel=1e-12)
    assert with_floor != without


def test_the_complexity_terms_are_those_of_their_formulas():
    objective = classifier(size=20)
    start = nn.Linear(20, 2, bias=False).double()
    w, w0 = (m.weight.detach().flatten() for m in (objective.model, start))
    for reference, change in (("start", w - w0), ("origin", w)):
        given = {"start": start} if reference == "start" else {}
        measured = PACBayesComplexity(reference=reference)(objective, **given)
        sigma = measured.details["sigma"]
        value = float(change @ change) / (4 * sigma**2) + math.log(20 / sigma) + 10
        assert measured.value == pytest.approx(value, rel=1e-12)
        aware = PACBayesComplexity(reference=reference, magnitude_aware=True)
        measured = aware(objective, **given)
        sigma = measured.details["sigma"]
        total = math.log(20 / sigma) + 10
        for each in change.tolist():
            above = 1e-6 + (sigma**2 + 1) * float(change @ change) / 40
            total += math.log(above / (1e-6 + sigma**2 * each**2)) / 4
        assert measured.value == pytest.approx(total, rel=1e-12)


def test_the_same_search_serves_all_measures():
    objective = classifier(size=20)
    measurement = Measurement(objective)
    flatness = PACBayesFlatness().within(measurement)
    bound = PACBayesComplexity(reference="origin").within(measurement)
    assert bound.cost == flatness.cost
    assert objective.cost.forwards <= flatness.cost.forwards + 2


@pytest.mark.slow
def test_intervals_cover_the_closed_form():
    value, covered, repeats = sigma_at(0.1) ** -2, 0, 400
    objective = classifier(size=200)
    for seed in range(repeats):
        measured = PACBayesFlatness(samples=20)(
            objective, generator=problems.generator(seed)
        )
        low, high = measured.interval(0.95)
        covered += low <= value <= high
    assert 0.92 < covered / repeats < 0.98


def test_what_is_undefined_is_one_sentence():
    x, y = problems.vectors()
    flat = Objective(nn.Sequential(problems.linear(), nn.Threshold(1e30, 0.0)), (x, y))
    regression = Objective(problems.linear(), (x, x[:, :3]), loss="mse")
    cases = [
        (PACBayesFlatness(), flat, UsageError, "move the error rate by change=0.1"),
        (PACBayesFlatness(), regression, UsageError, "at least two classes"),
        (
            PACBayesComplexity(),
            classifier(size=20),
            UsageError,
            "start of the training",
        ),
    ]
    for measure, objective, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            measure(objective)
        assert "\n" not in str(caught.value)
    for measure in (PACBayesFlatness, PACBayesComplexity):
        with pytest.raises(SettingError, match="must go with magnitude_aware=False"):
            measure(variant="published", magnitude_aware=True)


def test_a_search_that_goes_in_circles_ends_unconverged():
    model, data = problems.networks()["attention"]
    measured = PACBayesFlatness()(problems.objective(model, data))
    assert not measured.converged
    assert measured.details["evaluations"] < 30
