"""The local learning coefficient, in closed form.

A step of size e multiplies the variance of a mode of curvature a = nbeta h + gamma by
(1 + e s^2 / 4) / (1 - e a / 4), with s^2 the variance of nbeta times its gradient.
"""

import math

import pytest
import torch
from torch import nn

import problems
from steppe.errors import SettingError, UsageError
from steppe.linalg.chains import effective_samples, error_of_chains
from steppe.losses import L2
from steppe.measures import LLC, MEASURES, Measurement
from steppe.measures.needs.gradients.minibatches import MinibatchesOf
from steppe.objective import Objective
from steppe.results import Estimate

CURVATURES = torch.tensor([4.0, 2.0, 1.0, 0.3]).double().repeat(10)


class Modes(nn.Module):
    """Loss 0.5 sum h (w - z)^2 for each sample z, and more parameters elsewhere."""

    def __init__(self, curvatures=CURVATURES):
        super().__init__()
        self.curvatures = curvatures
        self.w = nn.Parameter(torch.zeros(len(curvatures)).double())
        self.more = nn.Parameter(torch.zeros(3).double())

    def forward(self, z):
        bent = 0.5 * (self.curvatures * (self.w - z).square()).sum(1)
        return bent + 50 * self.more.square().sum()


def modes_of(scale):
    """At the minimum, with other curvatures and no other parameters."""
    model = Modes(scale * CURVATURES)
    model.more.requires_grad_(False)
    return Objective(model, [torch.zeros_like(CURVATURES)[None]], loss=loss)


def loss(model, batch):
    return model(batch)


def modes(samples=1, penalty=None, batches=1):
    """At the minimum: samples of mean zero."""
    source = problems.generator(4)
    z = torch.randn((samples, len(CURVATURES)), generator=source).double()
    z -= z.mean(0)
    return Objective(Modes(), list(z.chunk(batches)), loss=loss, penalty=penalty)


def expected(lr, gamma, nbeta, noise=0.0, curvatures=CURVATURES):
    """Half the sum of nbeta h times the variances of the modes."""
    a = nbeta * curvatures + gamma
    variances = (1 + lr * noise / 4) / (a * (1 - lr * a / 4))
    return float((0.5 * nbeta * curvatures * variances).sum())


SETTINGS = {
    "lr": 0.02,
    "nbeta": 10.0,
    "gamma": 5.0,
    "batch_size": 0,
    "parameters": "w",
    "burn_in": 80,
}


@pytest.mark.slow
def test_it_is_that_of_a_localised_quadratic_with_steps_of_that_size():
    found = LLC(**SETTINGS, draws=300)(modes())
    assert abs(found.value - expected(0.02, 5.0, 10.0)) < 4 * found.stderr
    assert found.stderr < 0.02 * found.value
    small = expected(1e-9, 5.0, 10.0)
    d_eff = (CURVATURES / (CURVATURES + 5.0 / 10.0)).sum()
    assert small == pytest.approx(float(d_eff) / 2, rel=1e-6)
    bias = expected(0.02, 5.0, 10.0) - small
    assert found.details["step_bias"] == pytest.approx(bias, rel=0.05)


@pytest.mark.slow
def test_the_default_step_fills_modes_of_curvatures_of_any_size():
    """A fixed one is too short for flat losses, and diverges on steep ones."""
    for scale in (1e-3, 1.0, 1e3):
        llc = LLC(**{**SETTINGS, "lr": None, "gamma": 5.0 * scale}, draws=150)
        found = llc(modes_of(scale))
        assert found.details["rhat"] < 1.1
        assert found.details["lr_used"] * scale == pytest.approx(1 / 45, rel=0.01)
        assert abs(found.value - expected(1 / 45, 5.0, 10.0)) < 4 * found.stderr


def test_a_default_step_needs_second_derivatives_or_a_pull():
    data = [torch.zeros(1, len(CURVATURES)).double()]
    once = Objective(
        Modes(), data, loss=lambda model, z: problems.Flagged.apply(loss(model, z))
    )
    with pytest.raises(UsageError, match="lr=None needs the largest eigenvalue"):
        LLC(**{**SETTINGS, "lr": None})(once)
    flat = modes_of(-1.0)
    with pytest.raises(UsageError, match="a gamma above 0"):
        LLC(**{**SETTINGS, "lr": None, "gamma": 0.0})(flat)


@pytest.mark.slow
def test_half_the_step_has_the_value_of_half_the_step():
    found = LLC(**SETTINGS, draws=150, half_step=True)(modes())
    half, error = (found.details[f"half_step_{x}"] for x in ("value", "stderr"))
    assert abs(half - expected(0.01, 5.0, 10.0)) < 4 * error
    assert half < found.value
    assert found.cost.gradients == 4 * (150 + 80) * 3


@pytest.mark.slow
def test_a_bias_of_more_than_a_tenth_or_chains_that_drift_have_not_converged():
    assert LLC(**{**SETTINGS, "lr": 5e-3}, draws=250)(modes()).converged
    biased = LLC(**{**SETTINGS, "lr": 0.05}, draws=150)(modes())
    assert biased.details["rhat"] < 1.1
    assert not biased.converged
    drifting = LLC(**{**SETTINGS, "lr": 1e-5, "burn_in": 0}, draws=50)(modes())
    assert drifting.details["rhat"] > 1.1
    assert not drifting.converged


@pytest.mark.slow
@pytest.mark.parametrize(("power", "lr"), [(2, 0.02), (3, 0.008)])
def test_a_power_of_a_parameter_has_the_coefficient_of_its_singularity(power, lr):
    """1 / (2 k) for each parameter with the loss w^(2 k), whatever nbeta is."""
    count = 100

    class Powers(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(count).double())

        def forward(self, z):
            return self.w.pow(2 * power).sum().expand(len(z))

    objective = Objective(Powers(), [torch.zeros(1, 1)], loss=loss)
    llc = LLC(lr=lr, nbeta=1.0, gamma=0.0, batch_size=0, burn_in=200, draws=300)
    found = llc(objective)
    truth = count / (2 * power)
    bias = found.details["step_bias"]
    assert 0 <= bias < 0.08 * truth
    assert abs(found.value - truth) < 4 * found.stderr + 2 * bias


@pytest.mark.slow
def test_a_regular_model_has_half_its_number_of_parameters():
    """Linear regression at its minimum, by the default weight n / log n."""
    model = nn.Linear(4, 1, bias=False).double()
    source = problems.generator(1)
    x = torch.randn((60, 4), generator=source).double()
    y = torch.randn((60, 1), generator=source).double()
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    objective = Objective(model, (x, y), loss="mse")
    found = LLC(lr=4e-3, gamma=0.0, draws=500, batch_size=0)(objective)
    assert found.details["nbeta_value"] == pytest.approx(60 / math.log(60))
    assert abs(found.value - found.details["step_bias"] - 2) < 4 * found.stderr
    assert found.stderr < 0.2


@pytest.mark.slow
def test_noise_of_minibatches_is_in_the_value_and_its_bias():
    """Rows of several batches; samples shift the gradient alone."""
    objective = modes(samples=24, batches=5)
    z = torch.cat(list(objective.batches))
    share = 1 / 6 * (1 - 6 / 24)  # of six rows without replacement
    noise = (10 * CURVATURES).square() * z.var(0) * share
    settings = {**SETTINGS, "batch_size": 6, "gamma": 0.0}
    found = LLC(**settings, draws=300)(objective)
    truth = expected(0.02, 0.0, 10.0, noise)
    assert abs(found.value - truth) < 4 * found.stderr
    assert found.stderr < 0.05 * truth
    bias = truth - len(CURVATURES) / 2
    assert found.details["step_bias"] == pytest.approx(bias, rel=0.1)
    assert found.details["minibatches"] == "rows"
    assert found.cost.gradients == pytest.approx(4 * 380 / 4)


def test_a_penalty_is_part_of_the_loss():
    objective = modes(penalty=L2(0.5))
    curvatures = CURVATURES + L2(0.5).curvature(objective.params[0])
    found = LLC(**SETTINGS, draws=150)(objective)
    truth = expected(0.02, 5.0, 10.0, curvatures=curvatures)
    assert abs(found.value - truth) < 4 * found.stderr


def test_parameters_that_do_not_move_add_nothing():
    both = LLC(**{**SETTINGS, "lr": 2e-3, "parameters": "*"}, draws=30)(modes())
    one = LLC(**SETTINGS, draws=30)(modes())
    assert (both.details["moved_parameters"], one.details["moved_parameters"]) == (
        len(CURVATURES) + 3,
        len(CURVATURES),
    )
    with pytest.raises(SettingError, match="no parameter has a name that matches x"):
        LLC(parameters="x", nbeta=1.0)(modes())


def drawn_gradients(objective, size, draws=400):
    """Losses and gradients of minibatches, away from the first parameters."""
    minibatches = Measurement(objective).of(MinibatchesOf(size))
    with torch.no_grad():
        for p in objective.params:
            p.add_(0.1)
    source = problems.generator(3)
    with objective.measuring():
        pairs = [minibatches.gradient(objective.params, source) for _ in range(draws)]
    flat = [torch.cat([loss[None], *map(torch.flatten, g)]) for loss, g in pairs]
    truth = [torch.tensor([objective.value().value], dtype=torch.float64)]
    truth += map(torch.flatten, objective.gradient())
    return minibatches.kind, torch.stack(flat), torch.cat(truth)


KINDS = {
    "rows": ("tanh", "eval", 2),
    "batches": ("batch_norm", "train", 3),
    "all data": ("tanh", "eval", 7),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_minibatches_are_unbiased_where_the_last_batch_is_short(kind):
    name, mode, size = KINDS[kind]
    objective = problems.objective(*problems.networks()[name], mode=mode)
    found, values, truth = drawn_gradients(objective, size)
    assert found == kind
    error = values.std(0) / len(values) ** 0.5
    assert ((values.mean(0) - truth).abs() < 4.5 * error + 1e-12).all()
    assert (values.std(0).sum() > 0) == (kind != "all data")


def test_at_the_parameters_minibatches_have_the_loss_of_all_data():
    objective = problems.objective(problems.mlp(), problems.vectors())
    minibatches = Measurement(objective).of(MinibatchesOf(2))
    with objective.measuring():
        loss, _ = minibatches.gradient(objective.params, problems.generator(0))
    assert float(loss) == pytest.approx(objective.value().value, rel=1e-12)


def test_weights_of_the_loss_are_those_of_the_literature_and_of_other_software():
    objective = modes(samples=24)
    few = {"chains": 1, "draws": 4, "burn_in": 0, "batch_size": 6}
    weights = [
        LLC(**few, nbeta=nbeta)(objective).details["nbeta_value"]
        for nbeta in ("n", "batch", 3.0)
    ]
    assert weights == pytest.approx([24 / math.log(24), 6 / math.log(6), 3.0])
    assert MEASURES.build("llc:nbeta=batch") == LLC(nbeta="batch")
    assert MEASURES.build("llc:nbeta=7") == LLC(nbeta=7.0)
    with pytest.raises(UsageError, match=r"at least 2 loss terms .* got 1"):
        LLC(**few)(modes(samples=1))
    for wrong in ("m", 0.0):
        with pytest.raises(SettingError, match="nbeta must be"):
            LLC(nbeta=wrong)


def test_a_chain_that_diverges_says_which_step_is_small_enough():
    with pytest.raises(UsageError, match=r"diverged.* lr=1; .* as lr=0\.1\.$"):
        LLC(**{**SETTINGS, "lr": 1.0}, draws=2000)(modes())


def test_a_loss_that_is_not_finite_is_no_divergence():
    objective = modes(samples=3)
    with torch.no_grad():
        objective.params[0].fill_(math.inf)
    with pytest.raises(UsageError, match="the loss must be finite at the parameters"):
        LLC(**SETTINGS)(objective)


def test_traces_of_losses_are_bounded():
    llc = LLC(**{**SETTINGS, "burn_in": 3}, chains=2, draws=450)
    found = llc(modes())
    traces = found.details["traces"]
    assert found.details["trace_every"] == 3
    assert [len(trace) for trace in traces] == [151, 151]
    assert traces[0][0] == traces[1][0] == found.details["base_loss"]
    assert traces[0][1] != traces[1][1]


def test_the_cost_that_it_declares_is_that_of_its_defaults():
    llc = LLC()
    steps = llc.chains * (llc.burn_in + llc.draws)
    # One more pass builds the graphs of the products that the step is read off.
    assert MEASURES["llc"].spec.cost.gradients == steps + 1


def covered(estimates, truth):
    ends = [estimate.interval() for estimate in estimates]
    inside = [low < truth < high for low, high in ends]
    return sum(inside) / len(inside)


@pytest.mark.slow
def test_standard_errors_cover_the_truth_as_often_as_they_say():
    """Coverage in 2,000 repeats of chains that are run side by side."""
    lr, a, repeats = 0.04, torch.tensor([30.0, 10.0, 4.0]), 2000
    source = problems.generator(7)
    w, draws = torch.zeros(4 * repeats, 3), []
    for step in range(500):
        if step >= 100:
            draws.append((0.5 * a * w.square()).sum(1))
        noise = torch.randn(w.shape, generator=source)
        w = w - lr / 2 * a * w + lr**0.5 * noise
    chains = torch.stack(draws, 1).double().split(4)
    found = [
        Estimate(
            value=float(each.mean()),
            stderr=error_of_chains(each),
            samples=int(effective_samples(each)),
        )
        for each in chains
    ]
    truth = expected(lr, 0.0, 1.0, curvatures=a.double())
    assert 0.93 < covered(found, truth) < 0.97


@pytest.mark.slow
def test_standard_errors_of_the_measure_cover_the_truth_as_often_as_they_say():
    """Coverage in 300 repeats: 0.95 with a binomial deviation of 0.013."""
    objective = modes()
    llc = LLC(**SETTINGS, draws=100)
    found = [llc(objective, generator=problems.generator(s)) for s in range(300)]
    assert 0.91 < covered(found, expected(0.02, 5.0, 10.0)) < 0.985
