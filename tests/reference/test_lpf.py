"""The low-pass filtered loss of a quadratic, in closed form."""

import pytest
import torch

import problems
from steppe.measures import LPF, Measurement
from steppe.measures.needs.perturbed import perturbed_losses
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


SCALES = {"raw": torch.tensor(1.0).double(), "filter": START.norm()}


@pytest.mark.parametrize("scale", SCALES)
def test_the_mean_is_that_of_the_closed_form(scale):
    found = LPF(sigma=SIGMA, samples=4000, scale=scale)(quadratic())
    assert abs(found.value - float(expected(SCALES[scale]))) < 4 * found.stderr
    assert found.stderr * 4000**0.5 == pytest.approx(
        float(deviation(SCALES[scale])), rel=0.06
    )


def test_the_curvature_is_in_the_value_and_not_lost_in_its_error():
    found = LPF(sigma=SIGMA, samples=4000)(quadratic())
    assert found.value - found.details["base_loss"] > 10 * found.stderr


def test_standard_errors_cover_the_truth_as_often_as_they_say():
    objective, truth = quadratic(), float(expected(SCALES["filter"]))
    lpf = LPF(sigma=SIGMA, samples=60)
    found = [lpf(objective, generator=problems.generator(s)) for s in range(200)]
    scores = torch.tensor([(e.value - truth) / e.stderr for e in found])
    # 200 seeds: 0.683 with a binomial deviation of 0.033, 0.954 with 0.015.
    assert 0.58 < float((scores.abs() < 1).double().mean()) < 0.78
    assert float((scores.abs() < 2).double().mean()) > 0.9


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
