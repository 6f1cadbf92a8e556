"""The stochastic trace: its value, its error and its stopping rule."""

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.linalg.trace import trace

SPECTRUM = [10.0, 7.0, 5.0, 4.0, *torch.linspace(-0.5, 0.7, 60).tolist()]
TRUE = sum(SPECTRUM)


def estimates(count, **settings):
    H = problems.symmetric(SPECTRUM)
    return [
        trace(H, generator=problems.generator(seed), **settings)
        for seed in range(count)
    ]


def test_a_diagonal_matrix_needs_no_more_than_the_first_draws():
    found = trace(torch.diag(torch.tensor([3.0, -1.0, 2.5])))
    assert (found.value, found.stderr, found.samples) == (4.5, 0.0, 20)
    assert found.converged


def test_standard_errors_cover_the_truth_as_often_as_they_say():
    found = estimates(300, rtol=1e-9, min_samples=100, max_samples=100)
    scores = torch.tensor([(e.value - TRUE) / e.stderr for e in found])
    # 300 seeds: 0.683 and 0.954 with binomial deviations of 0.027 and 0.012.
    assert 0.6 < float((scores.abs() < 1).double().mean()) < 0.77
    assert float((scores.abs() < 2).double().mean()) > 0.91
    assert abs(float(scores.mean())) < 4 / 300**0.5


def test_the_variance_is_twice_the_squared_entries_off_the_diagonal():
    H = problems.symmetric(SPECTRUM)
    off = H - torch.diag(H.diagonal())
    found = trace(H, rtol=1e-9, max_samples=4000)
    expected = float(2 * off.square().sum()) ** 0.5
    assert found.stderr * 4000**0.5 == pytest.approx(expected, rel=0.06)


def test_it_stops_when_the_standard_error_is_as_asked_and_not_before():
    for found in estimates(20, rtol=0.05):
        assert found.converged
        assert found.stderr <= 0.05 * abs(found.value)
        assert abs(found.value - TRUE) < 5 * found.stderr
        assert found.samples > 20


def test_stopping_early_costs_the_standard_errors_little_of_their_coverage():
    found = estimates(200, rtol=0.1)
    assert 30 < sum(e.samples for e in found) / 200 < 45
    held = sum(abs(e.value - TRUE) < 1.96 * e.stderr for e in found) / 200
    # 0.905 over 400 seeds, where draws of a fixed number have 0.95.
    assert 0.86 < held <= 0.96


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_matrix_has_the_trace_of_its_own_entries(dtype):
    rounded = problems.symmetric(SPECTRUM).to(dtype)
    found, wide = trace(rounded), trace(rounded.double())
    assert found.value == pytest.approx(wide.value, rel=1e-6)
    assert found.stderr == pytest.approx(wide.stderr, rel=1e-5)


def test_autocast_around_it_changes_nothing():
    H = problems.symmetric(SPECTRUM).float()
    expected = trace(H)
    with problems.bfloat16_autocast():
        found = trace(H)
    assert (found.value, found.stderr) == (expected.value, expected.stderr)


def test_draws_are_added_in_float64():
    # 2^24 and ones: a sum in float32 loses them all.
    H = torch.diag(torch.tensor([2.0**24, *[1.0] * 7]))
    assert trace(H).value == 2**24 + 7


def test_a_spent_budget_is_not_called_converged():
    found = estimates(1, rtol=1e-4, max_samples=25)[0]
    assert (found.samples, found.converged, found.cost.products) == (25, False, 25)
    assert found.stderr > 1e-4 * abs(found.value)


def test_one_seed_gives_one_result_and_another_seed_another():
    same = [trace(problems.symmetric(SPECTRUM)).value for _ in range(2)]
    assert same[0] == same[1]
    first, second = estimates(2)
    assert first.value != second.value


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rtol": 0.0}, "rtol must be > 0"),
        ({"min_samples": 1}, "min_samples must be >= 2"),
        ({"max_samples": 19}, "max_samples must be >= min_samples = 20"),
    ],
)
def test_settings_out_of_range_are_one_sentence(settings, said):
    with pytest.raises(SettingError, match=said):
        trace(torch.eye(3), **settings)


def test_products_that_are_not_finite_are_refused():
    with pytest.raises(SettingError, match="infinities or NaN"):
        trace(torch.full((3, 3), torch.inf))
