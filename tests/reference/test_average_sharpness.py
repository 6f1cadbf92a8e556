"""Average-case sharpness of quadratics, in closed form."""

import pytest
import torch
from torch import nn

import problems
from steppe.errors import SettingError
from steppe.measures import AverageSharpness, measure
from steppe.objective import Objective

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
RHO = 0.3


def quadratic():
    model = problems.Quadratic(A, START)
    return Objective(model, [torch.zeros(1, 5).double()], loss=lambda m, z: m(z))


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_the_mean_is_half_the_trace_in_units_of_the_noise(noise, adaptive):
    c = START.abs() if adaptive else torch.ones(5).double()
    variance = 1.0 if noise == "gaussian" else 1 / 3
    expected = RHO**2 / 2 * variance * float((c**2 * A.diagonal()).sum())
    # Of one draw: that of the slope, and that of the curvature, whose terms off the
    # diagonal are products of independent numbers.
    scaled = c[:, None] * A * c
    fourth = 3.0 if noise == "gaussian" else 1 / 5
    off = scaled.square().sum() - scaled.diagonal().square().sum()
    spread = RHO**2 * variance * (c * (A @ START)).square().sum() + RHO**4 / 4 * (
        2 * variance**2 * off
        + (fourth - variance**2) * scaled.diagonal().square().sum()
    )
    sharpness = AverageSharpness(rho=RHO, noise=noise, adaptive=adaptive, samples=4000)
    result = sharpness(quadratic())
    assert abs(result.value - expected) < 4 * result.stderr
    deviation = float(spread) ** 0.5
    assert result.stderr * 4000**0.5 == pytest.approx(deviation, rel=0.06)
    assert result.details["base_loss"] == pytest.approx(float(START @ A @ START / 2))


@pytest.mark.slow
def test_errors_cover_the_truth_as_often_as_they_say():
    truth = RHO**2 / 2 * float((START**2 * A.diagonal()).sum())
    objective, sharpness = quadratic(), AverageSharpness(rho=RHO, samples=20)
    covered = 0
    for seed in range(2000):
        result = sharpness(objective, generator=problems.generator(seed))
        low, high = result.interval()
        covered += low < truth < high
    assert 0.93 < covered / 2000 < 0.97


def scaled(factor):
    model = problems.mlp(nn.ReLU)
    with torch.no_grad():
        model[4].weight.mul_(factor)
        model[4].bias.mul_(factor)
    return problems.objective(model, problems.vectors())


def test_with_normalised_logits_a_factor_of_the_outputs_changes_nothing():
    plain = "average_sharpness:samples=10"
    normalised = f"{plain},logit_normalised=True"
    one, ten = (measure(scaled(f), [plain, normalised]) for f in (1.0, 10.0))
    assert ten[normalised].value == pytest.approx(one[normalised].value, rel=1e-9)
    assert abs(ten[plain].value) > 3 * abs(one[plain].value)
    assert one[normalised].cost == one[plain].cost
    alone = measure(scaled(1.0), [normalised])[normalised]
    assert alone == one[normalised]


def test_the_work_of_normalised_logits_is_counted():
    objective = scaled(1.0)
    sharpness = AverageSharpness(samples=10, logit_normalised=True)
    cost = sharpness(objective).cost
    assert cost == (objective.cost - objective.checks).rounded()
    assert cost.forwards == pytest.approx(11)


def test_wrong_settings_are_one_sentence():
    with pytest.raises(SettingError, match="noise must be 'gaussian' or 'uniform'"):
        AverageSharpness(noise="normal")
    with pytest.raises(SettingError, match="adaptive must be True or False"):
        AverageSharpness(adaptive="yes")
