"""The low-pass filtered loss of a quadratic, in closed form."""

import pytest
import torch

import coverage
import problems
from steppe.measures import LPF, Measurement
from steppe.measures.needs.points.perturbed import perturbed_losses
from steppe.objective import Objective

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
ZERO = torch.zeros((1, 5), dtype=torch.float64)
SIGMA = 0.3


def quadratic():
    def loss(model, z):
        return model(z)

    return Objective(problems.Quadratic(A, START), [ZERO], loss=loss)


def expected(scale):
    """L + sigma^2/2 sum(scale^2 H_ii): the mean of the filtered loss."""
    return 0.5 * START @ A @ START + SIGMA**2 / 2 * scale**2 * A.trace()


def deviation(scale):
    """Standard deviation of one draw: its square is
    sigma^4/2 |scale^2 H|_F^2 + sigma^2 |scale g|^2."""
    s = SIGMA * scale
    return (0.5 * s**4 * A.square().sum() + s**2 * (A @ START).square().sum()) ** 0.5


SCALES = {
    "raw": torch.tensor(1.0).double(),
    "filter": START.norm(),
    "balanced": START.norm(),
}


@pytest.mark.slow
@pytest.mark.parametrize("scale", SCALES)
def test_the_mean_is_that_of_the_closed_form(scale):
    found = LPF(sigma=SIGMA, samples=4000, scale=scale)(quadratic())
    assert abs(found.value - float(expected(SCALES[scale]))) < 4 * found.stderr
    assert found.stderr * 4000**0.5 == pytest.approx(
        float(deviation(SCALES[scale])), rel=0.06
    )


@pytest.mark.slow
def test_the_curvature_is_in_the_value_and_not_lost_in_its_error():
    found = LPF(sigma=SIGMA, samples=4000)(quadratic())
    assert found.value - found.details["base_loss"] > 10 * found.stderr


@pytest.mark.slow
def test_with_noise_relative_to_each_weight_the_curvature_is_too():
    found = LPF(sigma=SIGMA, samples=4000, scale="adaptive")(quadratic())
    rise = SIGMA**2 / 2 * (START.square() * A.diagonal()).sum()
    truth = float(0.5 * START @ A @ START + rise)
    assert abs(found.value - truth) < 4 * found.stderr


@pytest.mark.parametrize(
    ("rtol", "repeats", "margin"),
    [
        (0.0, 400, 0.038),  # 3.5 binomial deviations
        pytest.param(0.0, 2000, 0.02, marks=pytest.mark.slow),
        pytest.param(0.2, 2000, 0.02, marks=pytest.mark.slow),
    ],
)
def test_standard_errors_cover_the_truth_as_often_as_they_say(rtol, repeats, margin):
    lpf = LPF(sigma=SIGMA, samples=12 if rtol == 0 else 60, scale="raw", rtol=rtol)
    d = 30
    matrix, start = problems.symmetric(torch.linspace(0.5, 2, d)), torch.zeros(d)
    objective = coverage.quadratic(matrix, start.double() + 0.1)
    base = float(objective.mean_loss())
    truth = base + SIGMA**2 / 2 * float(matrix.trace())
    share, _ = coverage.coverage(lpf, objective, truth, repeats)
    assert abs(share - 0.95) <= margin


def test_draws_end_where_the_standard_error_asked_is_met():
    measurement = Measurement(quadratic())
    asked = LPF(sigma=SIGMA, samples=2000, rtol=0.15).within(measurement)
    base = asked.details["base_loss"]
    assert asked.converged
    assert asked.stderr <= 0.15 * (asked.value - base)
    assert 20 < asked.samples < 2000
    assert asked.cost.forwards == asked.samples + 1
    losses = perturbed_losses(measurement, asked.samples, SIGMA, "filter")
    for count in range(20, asked.samples):  # no shorter prefix meets it
        first = losses[:count]
        error = float(first.std()) / count**0.5
        assert error > 0.15 * abs(float(first.mean()) - base)
    short = LPF(sigma=SIGMA, samples=30, rtol=1e-6)(quadratic())
    assert not short.converged
    assert short.samples == 30


@pytest.mark.slow
def test_matrices_are_filtered_by_rows():
    """A linear loss in one weight: the spread is sigma times the norm of its row."""
    model = torch.nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.1, 0.0]]))
    entries = [(0, 2), (1, 1)]
    for (row, column), norm in zip(entries, (5.0, 0.1), strict=True):
        at = row, column

        def loss(model, batch, at=at):
            return model.weight[at].expand(1)

        found = LPF(sigma=0.2, samples=3000)(Objective(model, [ZERO], loss=loss))
        assert found.stderr * 3000**0.5 == pytest.approx(0.2 * norm, rel=0.06)


def test_the_error_of_two_draws_is_half_their_distance():
    one, two = perturbed_losses(Measurement(quadratic()), 2, SIGMA, "filter")
    found = LPF(sigma=SIGMA, samples=2)(quadratic())
    assert found.stderr == pytest.approx(float(abs(one - two)) / 2, rel=1e-12)


def test_the_loss_at_the_parameters_is_among_the_details():
    found = LPF(samples=2)(quadratic())
    base = float(0.5 * START @ A @ START)
    assert found.details["base_loss"] == pytest.approx(base, rel=1e-12)
    assert found.cost.forwards == 3
