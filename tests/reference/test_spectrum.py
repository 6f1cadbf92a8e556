"""Spectra from few products against those of dense algebra."""

import math

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.linalg.spectrum import spectrum

EDGES = [10.0, 7.0, 5.0, -4.0]
BULK = torch.linspace(-0.5, 1.5, 296, dtype=torch.float64).tolist()
ALL = torch.tensor([*EDGES, *BULK], dtype=torch.float64)


def matrix(dtype=torch.float64):
    return problems.symmetric(ALL.tolist()).to(dtype)


def test_nodes_and_weights_integrate_polynomials_of_the_start_exactly():
    """Gauss quadrature: sum of w t^j is v' H^j v / v' v up to j = 2 m - 1."""
    H, m = matrix(), 6
    found = spectrum(H, steps=m, k=1, generator=problems.generator(4))
    bits = torch.randint(0, 2, (1, 300), generator=problems.generator(4))
    start = (2.0 * bits[0] - 1).double()
    image = start
    for power in range(2 * m):
        moment = float(start @ image) / 300
        quadrature = found.starts[0].mean(lambda nodes: nodes**power)  # noqa: B023
        assert quadrature == pytest.approx(moment, rel=1e-10, abs=1e-12)
        image = H @ image


def test_weights_are_shares():
    found = spectrum(matrix(), steps=40, probes=3)
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(found.weights.sum(1), ones, rtol=0, atol=1e-12)
    assert bool((found.weights >= 0).all())
    assert found.nodes.shape == (3, 40)
    assert found.products == 3 * 40 + 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairs_of_both_ends_are_those_of_the_matrix(dtype):
    H = matrix(dtype)
    found = spectrum(H, steps=60, k=3)
    values = ALL.sort().values
    rtol = 1e-5 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found.top.values, values[-3:].flip(0), rtol=rtol, atol=0)
    torch.testing.assert_close(found.bottom.values[-1:], values[:1], rtol=rtol, atol=0)
    vectors = found.top.vectors.double()
    again = (H.double() @ vectors - vectors * found.top.values).norm(dim=0)
    atol = 1e3 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.top.residuals, again, rtol=0, atol=atol)
    assert found.top.converged


def test_pairs_inside_the_bulk_are_not_called_converged_too_early():
    found = spectrum(matrix(), steps=15, k=8)
    assert not found.top.converged
    assert float(found.top.residuals[-1]) > 1e-2 * abs(float(found.top.values[-1]))


@pytest.mark.slow
def test_trace_and_norm_cover_the_truth():
    H, scores = matrix(), {"trace": [], "frobenius": []}
    norm = float(ALL.square().sum().sqrt())
    for seed in range(80):
        source = problems.generator(seed)
        found = spectrum(H, steps=20, draws=20, k=0, generator=source)
        error = found.trace.value - float(ALL.sum())
        scores["trace"].append(error / found.trace.stderr)
        error = found.frobenius.value - norm
        scores["frobenius"].append(error / found.frobenius.stderr)
    for drawn in scores.values():
        assert abs(sum(drawn) / 80) < 4 / math.sqrt(80)
        assert 0.5 < sum(abs(s) < 1 for s in drawn) / 80 < 0.85


def test_a_walk_through_the_whole_space_leaves_nothing_to_doubt():
    H = problems.symmetric([3.0, 3.0, 1.0, -2.0, 0.0])
    found = spectrum(H, steps=100, k=2)
    assert found.trace.value == pytest.approx(5.0, abs=1e-12)
    assert found.trace.stderr == 0
    assert found.frobenius.value == pytest.approx(math.sqrt(23), rel=1e-12)
    assert found.products == 5
    expected = torch.tensor([3.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(found.top.values, expected, rtol=1e-12, atol=0)


def test_the_ritz_sum_is_that_of_the_nodes_and_not_the_trace():
    found = spectrum(matrix(), steps=30, probes=2, k=0)
    total = float(found.nodes.sum()) / 2
    assert found.ritz_sum == pytest.approx(total, rel=1e-12)
    assert abs(found.ritz_sum - float(ALL.sum())) > 50


def test_sums_of_functions_are_those_over_all_eigenvalues():
    H = matrix() + 5 * torch.eye(300, dtype=torch.float64)
    found = spectrum(H, steps=60, probes=20, k=0)
    shifted = ALL + 5
    true = float((shifted / (shifted + 2)).sum())
    dimension = found.effective_dimension(2.0)
    assert abs(dimension.value - true) < 4 * dimension.stderr
    assert dimension.stderr < 0.05 * true
    determinant = found.log_determinant()
    assert abs(determinant.value - float(shifted.log().sum())) < 4 * determinant.stderr
    assert dimension.samples == 24  # the theory counts as four probes


def test_the_interval_of_two_probes_is_not_that_of_one_degree_of_freedom():
    H = matrix() + 5 * torch.eye(300, dtype=torch.float64)
    estimate = spectrum(H, steps=20, probes=2, k=0).log_determinant()
    low, high = estimate.interval()
    assert 2 < (high - low) / (2 * estimate.stderr) < 3


def test_negative_eigenvalues_count_nothing_towards_the_effective_dimension():
    found = spectrum(-torch.eye(20), steps=5, k=0)
    assert found.effective_dimension(1.0).value == 0


@pytest.mark.parametrize("sigma", ["quadrature", "pyhessian", 0.3])
def test_densities_integrate_to_one_and_follow_the_eigenvalues(sigma):
    found = spectrum(matrix(), steps=60, probes=4)
    grid, density = found.density(sigma, points=20_000)
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-9)
    below = float(torch.trapezoid(density * (grid < 2), grid))
    assert below == pytest.approx(297 / 300, abs=0.01)
    mean = float(torch.trapezoid(density * grid, grid))
    assert mean == pytest.approx(float(ALL.mean()), abs=0.2)


def test_a_density_of_many_steps_is_close_to_the_true_one():
    found = spectrum(matrix(), steps=60, probes=10)
    grid, density = found.density(0.3)
    bells = torch.exp(-((grid[:, None] - ALL) ** 2) / (2 * 0.3**2))
    true = bells.mean(1) / (0.3 * math.sqrt(2 * math.pi))
    assert float(torch.trapezoid((density - true).abs(), grid)) < 0.05


def test_one_eigenvalue_has_a_density_too():
    grid, density = spectrum(torch.eye(10), steps=5, k=1).density()
    assert float(grid[density.argmax()]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_one_eigenvalue_has_a_density_of_any_size_and_dimension(size):
    for H in (torch.full((1, 1), size), size * problems.symmetric([1.0] * 30)):
        grid, density = spectrum(H, steps=5, k=1).density()
        assert bool(density.isfinite().all())
        assert float(grid[density.argmax()]) == pytest.approx(size, rel=1e-4)
        assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("sigma", ["pyhessian", 1e-4])
def test_bells_narrower_than_the_grid_keep_their_shares(sigma):
    H = problems.symmetric([1e5, 3e4, *torch.linspace(-1, 1, 98).tolist()])
    grid, density = spectrum(H, steps=30, probes=5, k=1).density(sigma)
    share = float(torch.trapezoid(density * (grid > 2e4), grid))
    bits = spectrum(H, steps=30, probes=5, k=1)
    expected = float((bits.weights * (bits.nodes > 2e4)).sum()) / 5
    assert share == pytest.approx(expected, rel=0.05)


def test_functions_of_all_eigenvalues_are_exact():
    values = torch.tensor([4.0, 3.0, 2.0, 2.0, 0.5], dtype=torch.float64)
    found = spectrum(problems.symmetric(values.tolist()), steps=9, k=1)
    dimension = found.effective_dimension(1.0)
    true = float((values / (values + 1)).sum())
    assert dimension.value == pytest.approx(true, rel=1e-12)
    assert dimension.stderr == 0
    true = float(values.log().sum())
    assert found.log_determinant().value == pytest.approx(true, rel=1e-12)


def test_an_operator_without_rows_is_refused():
    with pytest.raises(SettingError, match=r"D >= 1, got \(0, 0\)"):
        spectrum(torch.empty(0, 0))


@pytest.mark.parametrize(
    ("size", "steps", "pairs"), [(3, 100, 3), (9, 4, 4), (9, 9, 5)]
)
def test_without_a_number_there_are_five_pairs_or_all(size, steps, pairs):
    found = spectrum(torch.eye(size).cumsum(0).cumsum(1), steps=steps)
    assert len(found.top.values) == len(found.bottom.values) == pairs


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 1}, "steps must be >= 2, got 1"),
        ({"probes": 0}, "probes must be >= 1, got 0"),
        ({"draws": 1}, "draws must be >= 2, got 1"),
        ({"k": 4, "steps": 3}, "k must be at most the number of steps, 3"),
        ({"k": 9}, "k must be at most the number of steps, 8"),
        ({"tol": 0.0}, "tol must be > 0"),
    ],
)
def test_settings_out_of_range_are_one_sentence(settings, said):
    with pytest.raises(SettingError, match=said):
        spectrum(torch.eye(8), **settings)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.effective_dimension(0.0), "alpha must be > 0"),
        (lambda s: s.log_determinant(), "shift must be > 1"),
        (lambda s: s.density(0.0), "sigma must be > 0"),
        (lambda s: s.density("kde"), "'quadrature' or 'pyhessian', got 'kde'"),
        (lambda s: s.density(points=1), "points must be >= 2"),
    ],
)
def test_questions_out_of_range_are_one_sentence(call, said):
    found = spectrum(-torch.eye(8), steps=3, k=1)
    with pytest.raises(SettingError, match=said):
        call(found)
