"""Curvature along the gradient: by its formula, by batches, and by forward passes."""

import math

import pytest
import torch
from torch import nn

import problems
from steppe.errors import DataError, UsageError
from steppe.losses import L2
from steppe.measures import (
    BatchSharpness,
    CriticalSharpness,
    DirectionalSharpness,
    Measurement,
    measure,
)
from steppe.objective import Objective


def along_gradient(loss, w):
    """g'Hg / |g|^2 of a function of a vector, densely."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        g = torch.autograd.functional.jacobian(loss, w)
        H = torch.autograd.functional.hessian(loss, w)
    return float(g @ H @ g / (g @ g))


def quadratic(start=(1.0, 1.0, 1.0)):
    """Loss 0.5 w'Aw + constant, from one sample."""
    matrix = problems.symmetric([0.5, 2.0, 6.0])
    model = problems.Quadratic(matrix, torch.tensor(start).double())
    data = [torch.zeros(1, 3).double()]
    return model, Objective(model, data, loss=lambda model, batch: model(batch))


@pytest.mark.parametrize("kind", ["tanh", "batch_norm", "tied", "attention"])
def test_directional_sharpness_is_that_of_dense_derivatives(kind):
    model, data = problems.networks()[kind]
    found = DirectionalSharpness()(problems.objective(model, data))
    expected = along_gradient(problems.loss_of(model, data), problems.flat(model))
    assert found.value == pytest.approx(expected, rel=1e-9)


def test_directional_sharpness_has_the_penalty():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data, penalty=L2(0.1, "all"))
    plain = problems.loss_of(model, data)
    expected = along_gradient(lambda w: plain(w) + 0.1 * w @ w, problems.flat(model))
    assert DirectionalSharpness()(objective).value == pytest.approx(expected, rel=1e-9)


def test_it_does_not_depend_on_the_length_of_a_tiny_gradient():
    start = torch.tensor([1e-140, 2e-140, 3e-140], dtype=torch.float64)
    model, objective = quadratic()
    with torch.no_grad():
        model.w.copy_(start)
    g = model.matrix @ start * 1e140
    expected = float(g @ model.matrix @ g / (g @ g))
    assert DirectionalSharpness()(objective).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rtol", [0.05, 1e-5])
def test_critical_sharpness_of_a_quadratic_is_the_directional_one(rtol):
    model, objective = quadratic()
    found = CriticalSharpness(rtol=rtol)(objective)
    g = model.matrix @ model.w.detach()
    expected = float(g @ model.matrix @ g / (g @ g))
    assert found.value == pytest.approx(expected, rel=rtol)
    assert found.details["critical_rate"] == pytest.approx(2 / expected, rel=rtol)


def test_it_is_the_rate_at_which_the_loss_rises():
    model, data = problems.mlp(), problems.vectors()
    found = CriticalSharpness(rtol=1e-4)(problems.objective(model, data))
    loss, w = problems.loss_of(model, data), problems.flat(model)
    g = torch.autograd.functional.jacobian(loss, w)
    rate = 2 / found.value
    assert loss(w - 0.9999 * rate * g) <= loss(w) < loss(w - 1.0001 * rate * g)
    # And at no smaller one.
    assert all(loss(w - t * rate * g) < loss(w) for t in torch.linspace(0.01, 0.99, 99))


def test_along_the_sharpest_direction_it_is_the_largest_eigenvalue():
    model, objective = quadratic()
    with torch.no_grad():
        model.w.copy_(torch.linalg.eigh(model.matrix).eigenvectors[:, 2])
    assert CriticalSharpness(rtol=1e-6)(objective).value == pytest.approx(6, rel=1e-6)


def test_before_the_edge_it_is_a_small_share_of_the_largest_eigenvalue():
    model, objective = quadratic()
    vectors = torch.linalg.eigh(model.matrix).eigenvectors
    with torch.no_grad():
        model.w.copy_(vectors @ torch.tensor([1.0, 0.0, 1e-3]).double())
    found = measure(objective, ["critical_sharpness", "top_eigenvalue"])
    assert found["top_eigenvalue"].value == pytest.approx(6)
    assert found["critical_sharpness"].value == pytest.approx(0.5, rel=0.05)


class NoDoubleBackward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]).double())

    def forward(self, x):
        return (x * problems.Flagged.apply(self.w)).sum(1)


def test_critical_sharpness_needs_no_second_derivatives():
    model = NoDoubleBackward()
    x = torch.tensor([[1.0, 3.0]]).double()
    objective = Objective(model, [x], loss=lambda model, batch: model(batch))
    g = torch.tensor([2.0, 12.0]).double()
    H = torch.tensor([2.0, 6.0]).double()
    found = CriticalSharpness(rtol=1e-5)(objective)
    assert found.value == pytest.approx(float(g @ (H * g) / (g @ g)), rel=1e-5)
    with pytest.raises(UsageError):
        measure(objective, ["directional_sharpness"])


class Slope(nn.Module):
    """A loss that falls for ever, or below a point has no number."""

    def __init__(self, function):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1).double())
        self.function = function

    def forward(self, x):
        return self.function(self.w * x)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_loss_that_never_rises_has_an_upper_bound(value):
    model = Slope(lambda w: w - 1 + value)
    found = CriticalSharpness()(
        Objective(model, [torch.ones(1).double()], loss=lambda m, b: m(b))
    )
    assert not found.converged
    assert 0 < found.value < 1e-25


def test_a_loss_that_is_no_number_counts_as_higher():
    model = Slope(lambda w: w.sqrt())
    found = CriticalSharpness(rtol=1e-4)(
        Objective(model, [torch.ones(1).double()], loss=lambda m, b: m(b))
    )
    assert found.value == pytest.approx(1, rel=1e-3)  # the step to zero is 2


def test_a_gradient_of_zero_is_refused():
    _, objective = quadratic((0.0, 0.0, 0.0))
    for name in ("directional_sharpness", "critical_sharpness"):
        with pytest.raises(UsageError, match=r"must not be zero .* got 0; "):
            measure(objective, [name])
    with pytest.raises(UsageError, match="batches whose gradient is not zero"):
        measure(objective, ["batch_sharpness"])


def test_a_gradient_that_is_no_number_is_refused():
    model = Slope(lambda w: w * math.nan)
    objective = Objective(model, [torch.ones(1).double()], loss=lambda m, b: m(b))
    with pytest.raises(DataError, match="infinity or NaN"):
        measure(objective, ["gradient_norm"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_batch_sharpness_is_the_mean_over_batches_of_the_size_asked(mode):
    model, (x, y) = problems.networks()["batch_norm"]
    x, y = problems.vectors(14, shape=(1, 4, 4))
    measured = BatchSharpness(batch_size=4)
    found = measured(problems.objective(model, (x, y), mode=mode, batch_size=5))
    # The same deal: rows in the order of the measure's stream.
    stream = Measurement(problems.objective(model, (x, y))).stream("batch_sharpness")
    order = torch.randperm(14, generator=stream)
    w = problems.flat(model)
    values = torch.tensor(
        [
            along_gradient(problems.loss_of(model, (x[i], y[i]), mode, 4), w)
            for i in order[:12].split(4)
        ],
        dtype=torch.float64,
    )
    assert found.value == pytest.approx(float(values.mean()), rel=1e-9)
    assert found.stderr == pytest.approx(float(values.std()) / 3**0.5, rel=1e-9)
    assert (found.samples, found.details["rows_of_a_batch"]) == (3, 4)


def test_batch_sharpness_of_all_samples_is_the_directional_one():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data, penalty=L2(0.1))
    found = measure(objective, ["batch_sharpness", "directional_sharpness"])
    whole = found["directional_sharpness"].value
    assert found["batch_sharpness"].value == pytest.approx(whole, rel=1e-9)
    assert found["batch_sharpness"].stderr == math.inf


def test_batch_sharpness_needs_rows():
    def loss(model, batch):
        return model(batch["x"]).sum(1)

    batches = [{"x": problems.vectors()[0], "name": "a"}]
    with pytest.raises(UsageError, match="batch 0 has none; give batches"):
        measure(Objective(problems.mlp(), batches, loss=loss), ["batch_sharpness"])


@pytest.mark.slow
def test_intervals_of_batch_sharpness_cover_the_value_of_the_population():
    # One weight: the curvature of every batch is twice its mean squared input.
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    source, covered, repeats = problems.generator(4), 0, 2000
    for repeat in range(repeats):
        x = torch.rand((40, 1), generator=source, dtype=torch.float64)
        y = torch.randn((40, 1), generator=source, dtype=torch.float64)
        objective = Objective(model, (12**0.5 * (x - 0.5), y), loss="mse")
        found = BatchSharpness(batch_size=4)(
            objective, generator=problems.generator(repeat)
        )
        low, high = found.interval()
        covered += low <= 2 <= high
    assert 0.93 <= covered / repeats <= 0.97
