"""Worst-case sharpness of groups, where the largest loss is known."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import SettingError, UsageError
from steppe.losses import L2
from steppe.measures import WorstSharpness, measure
from steppe.measures.needs.gradients.groups import mean_over_groups
from steppe.objective import Objective
from steppe.results import Estimate

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, 0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
RHO = 0.3


def quadratic(z, batch_size=3, **settings):
    def loss(model, batch):
        return model(batch[0])

    model = problems.Quadratic(A, START)
    return Objective(model, (z,), loss=loss, batch_size=batch_size, **settings)


def trust_region(matrix, slope, rho=RHO):
    """The largest slope d + d A d / 2 with |d| <= rho, by its secular equation."""
    values, vectors = torch.linalg.eigh(matrix)
    turned = vectors.T @ slope
    low, high = float(values[-1]) + 1e-13, 1e6
    for _ in range(200):
        mu = (low + high) / 2
        longer = float((turned / (mu - values)).norm()) > rho
        low, high = (mu, high) if longer else (low, mu)
    d = vectors @ (turned / (low - values))
    return float(slope @ d + d @ matrix @ d / 2)


@pytest.mark.parametrize("adaptive", [False, True])
def test_at_a_minimum_it_is_the_largest_eigenvalue(adaptive):
    scale = START.abs() if adaptive else torch.ones(5).double()
    sharpness = WorstSharpness(rho=RHO, p="2", adaptive=adaptive, steps=150)
    value = sharpness(quadratic(START[None])).value
    eigenvalues = torch.linalg.eigvalsh(scale[:, None] * A * scale)
    assert value == pytest.approx(float(RHO**2 / 2 * eigenvalues[-1]), rel=1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 128])
def test_off_a_minimum_it_is_the_mean_over_trust_regions_of_groups(size, adaptive):
    z = torch.randn(5, 5, generator=problems.generator()).double()
    c = START.abs() if adaptive else torch.ones(5).double()
    sharpness = WorstSharpness(
        rho=RHO, p="2", adaptive=adaptive, steps=100, group_size=size
    )
    result = sharpness(quadratic(z))
    parts = z.split(size)
    rises = torch.tensor(
        [
            trust_region(c[:, None] * A * c, c * (A @ (START - part.mean(0))))
            for part in parts
        ],
        dtype=torch.float64,
    )
    weights = torch.tensor([len(part) for part in parts]).double()
    mean = float((weights * rises).sum() / 5)
    assert result.value == pytest.approx(mean, rel=1e-9)
    assert result.samples == len(parts)
    apart = (weights * (rises - mean)).square().sum()
    if len(parts) > 1:
        variance = apart * len(parts) / (len(parts) - 1) / 25
        assert result.stderr == pytest.approx(float(variance.sqrt()), rel=1e-6)
    else:
        assert result.stderr == math.inf
    assert result.details["groups"] == "samples"


def test_the_penalty_rises_too():
    z = torch.randn(4, 5, generator=problems.generator()).double()
    sharpness = WorstSharpness(rho=RHO, p="2", adaptive=False, steps=100)
    decay = 0.7
    result = sharpness(quadratic(z, penalty=L2(decay / 2, "all")))
    slope = A @ (START - z.mean(0)) + decay * START
    expected = trust_region(A + decay * torch.eye(5), slope)
    assert result.value == pytest.approx(expected, rel=1e-9)
    assert result.details["base_loss"] == pytest.approx(
        quadratic(z, penalty=L2(decay / 2, "all")).value().value
    )


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("p", ["2", "inf"])
def test_a_linear_loss_has_the_dual_norm_of_its_slope(p, adaptive):
    model = nn.Linear(5, 1, bias=False).double()
    x = torch.randn(6, 5, generator=problems.generator()).double()
    objective = Objective(model, (x,), loss=lambda m, batch: m(batch[0])[:, 0])
    sharpness = WorstSharpness(rho=RHO, p=p, adaptive=adaptive, group_size=2)
    c = model.weight[0].detach().abs() if adaptive else torch.ones(5).double()
    slopes = c * x.view(3, 2, 5).mean(1)
    expected = RHO * slopes.norm(p=1 if p == "inf" else 2, dim=1).mean()
    assert sharpness(objective).value == pytest.approx(float(expected), rel=1e-12)


def test_the_margin_of_a_linear_classifier_falls_by_the_length_of_the_input():
    x, y = problems.vectors()
    sign = torch.where(y == 0, 1.0, -1.0).double()
    model = nn.Linear(4, 1, bias=False).double()

    def loss(model, batch):
        return F.softplus(-batch[1] * model(batch[0])[:, 0])

    objective = Objective(model, (x, sign), loss=loss)
    sharpness = WorstSharpness(rho=RHO, p="2", adaptive=False, group_size=1)
    margin = (sign * model(x)[:, 0]).detach()
    rises = F.softplus(RHO * x.norm(dim=1) - margin) - F.softplus(-margin)
    assert sharpness(objective).value == pytest.approx(float(rises.mean()), rel=1e-9)


def scaled(model, factor):
    with torch.no_grad():
        model[4].weight.mul_(factor)
        model[4].bias.mul_(factor)
    return model


@pytest.mark.parametrize("name", ["worst_sharpness:p=2,rho=0.5", "worst_sharpness"])
def test_with_normalised_logits_a_factor_of_the_outputs_changes_nothing(name):
    normalised = f"{name}{',' if ':' in name else ':'}logit_normalised=True"
    values = {}
    for factor in (1.0, 10.0):
        model = scaled(problems.mlp(nn.ReLU), factor)
        objective = problems.objective(model, problems.vectors())
        values[factor] = measure(objective, [name, normalised])
    assert values[10.0][normalised].value == pytest.approx(
        values[1.0][normalised].value, rel=1e-9
    )
    assert values[10.0][name].value > 3 * values[1.0][name].value
    assert values[1.0][normalised].cost == values[1.0][name].cost


def test_the_ball_of_normalised_logits_is_not_adaptive_by_itself():
    """Scaled weights have a wider ball around them then: 10 times the head."""
    values = []
    for factor in (1.0, 10.0):
        model = scaled(problems.mlp(nn.ReLU), factor)
        objective = problems.objective(model, problems.vectors())
        sharpness = WorstSharpness(logit_normalised=True, adaptive=False)
        values.append(sharpness(objective).value)
    assert values[1] < 0.9 * values[0]


def rescaled(model):
    """The same function: a ReLU unit is homogeneous."""
    factors = torch.tensor([3.0, 0.2, 1.0, 5.0, 0.5, 2.0]).double()
    with torch.no_grad():
        model[0].weight.mul_(factors[:, None])
        model[0].bias.mul_(factors)
        model[2].weight.div_(factors)
    return model


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("p", "rho"), [("2", 0.5), ("inf", 0.002)])
def test_the_adaptive_ball_alone_follows_a_rescaling_of_units(p, rho, adaptive):
    sharpness = WorstSharpness(p=p, rho=rho, adaptive=adaptive, group_size=3)
    before, after = (
        sharpness(problems.objective(model, problems.vectors())).value
        for model in (problems.mlp(nn.ReLU), rescaled(problems.mlp(nn.ReLU)))
    )
    assert (after == pytest.approx(before, rel=1e-9)) == adaptive
    assert adaptive or abs(after - before) > 0.05 * before


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(reduction="none"), "mse"])
def test_normalised_logits_need_a_plain_cross_entropy(loss):
    x, y = problems.vectors()
    sharpness = WorstSharpness(logit_normalised=True, steps=2)
    if loss == "mse":
        objective = Objective(problems.mlp(), (x, F.one_hot(y).double()), loss=loss)
        with pytest.raises(UsageError, match="needs the cross-entropy of logits"):
            sharpness(objective)
        return
    by_name = sharpness(Objective(problems.mlp(), (x, y)))
    by_module = sharpness(Objective(problems.mlp(), (x, y), loss=loss))
    assert by_module.value == by_name.value


def test_batch_statistics_keep_the_batches_of_the_data():
    model, data = problems.networks()["batch_norm"]
    train = problems.objective(model, data, mode="train")
    result = WorstSharpness(steps=3, group_size=2)(train)
    assert result.details["groups"] == "batches of the data"
    assert result.samples == 3
    evaluated = problems.objective(model, data)
    assert WorstSharpness(steps=3, group_size=2)(evaluated).samples == 4


def test_a_group_without_loss_terms_is_left_out():
    x, y = problems.vectors()
    ignored = torch.where(torch.arange(7) < 2, -100, y)
    sharpness = WorstSharpness(group_size=2, steps=3)
    some = sharpness(Objective(problems.mlp(), (x, ignored)))
    rest = sharpness(Objective(problems.mlp(), (x[2:], y[2:])))
    assert some.value == pytest.approx(rest.value, rel=1e-12)
    assert some.samples == rest.samples == 3


def test_more_steps_and_restarts_find_no_less_and_cost_what_they_say():
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    few, many, again = (
        WorstSharpness(p="2", rho=2.0, **more)(objective)
        for more in ({"steps": 4}, {"steps": 40}, {"steps": 40, "restarts": 2})
    )
    assert few.value < many.value <= again.value
    assert [r.cost.gradients for r in (few, many, again)] == [5, 41, 123]
    assert 0 <= many.details["late_gain"] < few.details["late_gain"] <= 1


def test_float32_agrees_with_float64():
    x, y = problems.vectors()
    sharpness = WorstSharpness(p="2", rho=0.5)
    double = sharpness(Objective(problems.mlp(), (x, y)))
    single = sharpness(Objective(problems.mlp().float(), (x.float(), y)))
    assert single.value == pytest.approx(double.value, rel=1e-4)


def test_intervals_over_groups_cover_as_often_as_they_say():
    source = problems.generator()
    values = torch.randn(2000, 8, generator=source).double()
    half = Estimate(value=0.0, stderr=1.0, samples=8).interval()[1]
    results = [mean_over_groups(row, [128] * 8) for row in values.tolist()]
    covered = sum(abs(value) < half * stderr for value, stderr in results)
    assert 0.93 < covered / 2000 < 0.97


def test_wrong_settings_are_one_sentence():
    with pytest.raises(SettingError, match="p must be '2' or 'inf', got 2"):
        WorstSharpness(p=2)
    with pytest.raises(SettingError, match="adaptive must be True or False"):
        WorstSharpness(adaptive=1)
