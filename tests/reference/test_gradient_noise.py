"""Statistics over the gradients of samples, against gradients row by row."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import UsageError
from steppe.losses import L2
from steppe.measures import measure
from steppe.measures.gradients import gradient_noise, gsnr, noise_scale
from steppe.measures.needs.gradients import row_gradients
from steppe.measures.needs.gradients.sample_gradients import Norms, Variances
from steppe.objective import Objective
from steppe.results import Estimate

NAMES = [
    "gradient_norm",
    "gradient_noise",
    "noise_scale",
    "gsnr",
    "empirical_fisher_trace",
]


def gradient(model, value):
    params = [p for p in model.parameters() if p.requires_grad]
    parts = torch.autograd.grad(
        value, params, retain_graph=True, materialize_grads=True
    )
    return torch.cat([part.flatten() for part in parts])


def row_by_row(model, data, loss=F.cross_entropy):
    """Gradient of the loss of each row, shape (n, D), by a pass for each."""
    model = copy.deepcopy(model).eval()
    rows = zip(*(t.split(1) for t in data), strict=True)
    return torch.stack([gradient(model, loss(model(x), y)) for x, y in rows])


def expected(G):
    """All statistics of the gradients, shape (n, D), with plain jackknives."""
    n = len(G)
    noise = [total_variance(without(G, i)) for i in range(n)]
    scales = torch.tensor([scale(without(G, i)) for i in range(n)])
    squares = G.square().sum(1)
    return {
        "gradient_norm": (float(G.mean(0).norm()), 0.0),
        "gradient_noise": (total_variance(G), jackknife(torch.tensor(noise))),
        "noise_scale": (
            scale(G),
            jackknife(scales) if scales.isfinite().all() else math.inf,
        ),
        "gsnr": (signal(G), None),
        "empirical_fisher_trace": (
            float(squares.mean()),
            float(squares.std()) / n**0.5,
        ),
    }


def without(G, i):
    return torch.cat([G[:i], G[i + 1 :]])


def total_variance(G):
    return float(torch.cov(G.T).trace())


def scale(G):
    square = float(G.mean(0).square().sum()) - total_variance(G) / len(G)
    return total_variance(G) / square if square > 0 else math.inf


def signal(G):
    mean, variances = G.mean(0), G.var(0)
    live = variances > 1e-20
    return float((mean.square() / variances)[live].mean()) - 1 / len(G)


def jackknife(values):
    n = len(values)
    return float(values.double().var(correction=0) * (n - 1)) ** 0.5


def check(found, G):
    for name, (value, error) in expected(G).items():
        assert found[name].value == pytest.approx(value, rel=1e-9), name
        if error is not None:
            assert found[name].stderr == pytest.approx(error, rel=1e-6), name
        assert name == "gradient_norm" or found[name].samples == len(G)


@pytest.mark.parametrize("kind", problems.networks())
def test_they_are_those_of_gradients_row_by_row(kind):
    model, data = problems.networks()[kind]
    found = measure(problems.objective(model, data), NAMES)
    check(found, row_by_row(model, data))
    assert found["gradient_noise"].details["samples_are"] == "rows"


def test_they_do_not_depend_on_chunks_nor_on_batches(monkeypatch):
    model, data = problems.mlp(), problems.vectors(23)
    G = row_by_row(model, data)
    for numbers, batch_size in ((1, 23), (3 * G.shape[1], 5), (2**20, 4)):
        monkeypatch.setattr(row_gradients, "AT_ONCE", numbers)
        check(measure(problems.objective(model, data, batch_size), NAMES), G)


def test_a_loss_that_no_transform_takes_is_differentiated_row_by_row():
    def loss(model, batch):
        losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return losses * max(1.0, float(losses.detach().sum() * 0))

    model, data = problems.mlp(), problems.vectors()
    objective = Objective(model, data, loss=loss, batch_size=3)
    found = measure(objective, NAMES)
    check(found, row_by_row(model, data))
    assert found["gradient_noise"].details["samples_are"] == "rows"


def test_batches_without_rows_have_loss_terms_for_samples():
    def loss(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"], reduction="none")

    model, (x, y) = problems.mlp(), problems.vectors()
    batches = [
        {"x": x[i : i + 3], "y": y[i : i + 3], "name": "a"} for i in range(0, 7, 3)
    ]
    found = measure(Objective(model, batches, loss=loss), NAMES)
    check(found, row_by_row(model, (x, y)))
    assert found["gradient_noise"].details["samples_are"] == "loss terms"


def test_batch_statistics_make_loss_terms_of_their_batch_the_samples():
    model, (x, y) = problems.networks()["batch_norm"]
    trained = copy.deepcopy(model).train()
    G = torch.cat(
        [
            torch.stack(
                [
                    gradient(trained, term)
                    for term in F.cross_entropy(trained(a), b, reduction="none")
                ]
            )
            for a, b in zip(x.split(3), y.split(3), strict=True)
        ]
    )
    check(measure(problems.objective(model, (x, y), mode="train"), NAMES), G)


def test_statistics_that_are_estimated_anew_are_constants_of_all_rows():
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data, mode="reestimate")
    with objective.measuring():
        fitted = copy.deepcopy(model)
    assert not torch.allclose(fitted[1].running_mean, model[1].running_mean)
    found = measure(objective, NAMES)
    check(found, row_by_row(fitted, data))
    assert found["gradient_noise"].details["samples_are"] == "rows"


class Tokens(nn.Module):
    """Scores of classes for every token of a text."""

    def __init__(self):
        super().__init__()
        self.layers = problems.mlp()

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("ignored", [0, 5])
def test_a_row_with_several_terms_is_one_sample(ignored):
    x, _ = problems.vectors(6, shape=(5, problems.INPUTS))
    y = torch.randint(problems.CLASSES, (6, 5), generator=problems.generator(2))
    y[0, :4] = y[2, 1:3] = -100
    y[4, :ignored] = -100  # all five: no sample
    model = Tokens()
    G = []
    for row, targets in zip(x, y, strict=True):
        if bool((targets != -100).any()):
            G.append(
                gradient(model, F.cross_entropy(model(row), targets, reduction="sum"))
            )
    G = torch.stack(G)
    terms = int((y != -100).sum())
    found = measure(problems.objective(model, (x, y), batch_size=4), NAMES)
    check(found, G * len(G) / terms)


def test_tokens_without_ignored_ones_take_the_transform():
    x, _ = problems.vectors(6, shape=(5, problems.INPUTS))
    y = torch.randint(problems.CLASSES, (6, 5), generator=problems.generator(2))
    model = Tokens()
    G = torch.stack(
        [gradient(model, F.cross_entropy(model(a), b)) for a, b in zip(x, y)]
    )
    check(measure(problems.objective(model, (x, y), batch_size=4), NAMES), G)


def test_a_penalty_is_in_the_gradient_and_in_no_sample():
    model, data = problems.mlp(), problems.vectors()
    G = row_by_row(model, data)
    objective = problems.objective(model, data, penalty=L2(0.1, "all"))
    found = dict(measure(objective, NAMES))
    moved = G.mean(0) + 2 * 0.1 * problems.flat(model)
    assert found.pop("gradient_norm").value == pytest.approx(float(moved.norm()))
    plain = measure(problems.objective(model, data), NAMES)
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(plain[name].value, rel=1e-9)
        assert estimate.stderr == pytest.approx(plain[name].stderr, rel=1e-6)


def test_float32_is_float64_to_its_rounding():
    model, (x, y) = problems.mlp(), problems.vectors(40)
    exact = measure(problems.objective(model, (x, y)), NAMES)
    found = measure(problems.objective(model.float(), (x.float(), y)), NAMES)
    for name in NAMES:
        assert found[name].value == pytest.approx(exact[name].value, rel=1e-4), name


def test_a_unit_that_is_never_active_has_no_ratio():
    model, data = problems.mlp(nn.ReLU), problems.vectors(30)
    with torch.no_grad():
        model[0].weight[2] = 0.0
        model[0].bias[2] = -1.0
    found = measure(problems.objective(model, data), ["gsnr"])["gsnr"]
    G = row_by_row(model, data)
    live = G.var(0) > 0
    assert found.details["parameters"] == int(live.sum()) <= G.shape[1] - 10
    assert found.value == pytest.approx(signal(G), rel=1e-9)


def test_one_sample_has_no_noise():
    model, (x, y) = problems.mlp(), problems.vectors(1)
    objective = problems.objective(model, (x, y))
    for name in ("gradient_noise", "noise_scale", "gsnr"):
        with pytest.raises(UsageError, match="at least 2 samples, got 1"):
            measure(objective, [name])
    one = measure(objective, ["empirical_fisher_trace"])["empirical_fisher_trace"]
    assert one.stderr == math.inf


def test_a_loss_of_one_term_for_all_rows_has_one_sample():
    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1]).unsqueeze(0)

    objective = Objective(problems.mlp(), problems.vectors(), loss=loss)
    with pytest.raises(UsageError, match="a term for each row"):
        measure(objective, ["gradient_noise"])


def test_gradients_without_a_signal():
    model = nn.Linear(2, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double()
    opposite = Objective(model, (x, torch.tensor([[1.0], [-1.0]]).double()), loss="mse")
    with pytest.raises(UsageError, match="not zero, got 0 over 2 samples"):
        measure(opposite, ["noise_scale"])
    same = Objective(model, (x, torch.ones(2, 1).double()), loss="mse")
    with pytest.raises(UsageError, match="those of all 2 samples are the same"):
        measure(same, ["gsnr"])
    lost = Objective(
        model, (x.repeat(2, 1), torch.tensor([[1.1], [-1], [1], [-1]]).double()), "mse"
    )
    found = measure(lost, ["noise_scale"])["noise_scale"]
    assert (found.value, found.converged) == (math.inf, False)


def test_one_pass_serves_all_but_the_second_one_of_gsnr():
    objective = problems.objective(problems.mlp(), problems.vectors())
    measure(objective, NAMES)
    spent = objective.cost - objective.checks
    assert spent.gradients == pytest.approx(3)
    assert spent.forwards == pytest.approx(1)


# Squared errors of a linear model x'w with targets around x'v, at w = v + d: the
# gradient of a sample is 2 x (x'd - e). Inputs and noise are uniform, of variance 1 and
# S^2, whose fourth moments are 9/5 times the square of that.
DISTANCE = torch.tensor([0.6, -0.4, 0.8], dtype=torch.float64)
SPREAD, SAMPLES, REPEATS = 0.5, 400, 2000


def regressions():
    """Gradients of each of many samples of the data, shape (n, D)."""
    source = problems.generator(3)
    for _ in range(REPEATS):
        numbers = torch.rand((SAMPLES, 4), generator=source, dtype=torch.float64)
        numbers = 12**0.5 * (numbers - 0.5)
        x, noise = numbers[:, :3], SPREAD * numbers[:, 3]
        yield 2 * x * (x @ DISTANCE - noise).unsqueeze(1)


def norms_of(G):
    mean = G.mean(0)
    apart = G - mean
    return Norms(
        "rows",
        G.square().sum(1),
        apart.square().sum(1),
        apart @ mean,
        float(mean.square().sum()),
    )


def signal_of(G):
    moments = Variances("rows", len(G), 1.0, G.mean(0), G.var(0))
    live = gsnr.varying(moments, G.dtype)
    error = float(gsnr.influences(G, moments, live).std()) / len(G) ** 0.5
    return signal(G), error


def squares_of(G):
    squares = G.square().sum(1)
    return float(squares.mean()), float(squares.std()) / len(G) ** 0.5


LENGTH = float(DISTANCE.square().sum())
SECONDS = 4 * (LENGTH + 0.8 * DISTANCE**2 + SPREAD**2)  # moments of each entry
SECOND = float(SECONDS.sum())
NOISE = SECOND - 4 * LENGTH
VARIANCES = SECONDS - 4 * DISTANCE**2
CALIBRATED = {
    "gradient_noise": (
        lambda G: gradient_noise.trace_of_covariance(norms_of(G)),
        NOISE,
    ),
    "noise_scale": (lambda G: noise_scale.ratio(norms_of(G)), NOISE / (4 * LENGTH)),
    "gsnr": (signal_of, float((4 * DISTANCE**2 / VARIANCES).mean())),
    "empirical_fisher_trace": (squares_of, SECOND),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALIBRATED)
def test_intervals_cover_the_value_of_the_population(name):
    statistic, truth = CALIBRATED[name]
    covered, values = 0, []
    for G in regressions():
        value, error = statistic(G)
        low, high = Estimate(value=value, stderr=error, samples=SAMPLES).interval()
        covered += low <= truth <= high
        values.append(value)
    assert 0.93 <= covered / REPEATS <= 0.97
    assert abs(sum(values) / REPEATS / truth - 1) < 0.02


def test_the_arithmetic_is_that_of_the_measures():
    source = problems.generator(5)
    x = torch.randn((50, 3), generator=source, dtype=torch.float64)
    y = torch.randn((50, 1), generator=source, dtype=torch.float64)
    model = nn.Linear(3, 1, bias=False).double()
    found = measure(Objective(model, (x, y), loss="mse"), NAMES)
    G = 2 * x * (x @ model.weight.detach().T - y)
    for name, (statistic, _) in CALIBRATED.items():
        value, error = statistic(G)
        assert found[name].value == pytest.approx(value, rel=1e-9)
        assert found[name].stderr == pytest.approx(error, rel=1e-9)
