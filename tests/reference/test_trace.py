"""The stochastic trace: its value, its error and its stopping rule."""

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.linalg.diagonal import diagonal
from steppe.linalg.trace import frobenius, trace
from steppe.results import Estimate

SPECTRUM = [10.0, 7.0, 5.0, 4.0, *torch.linspace(-0.5, 0.7, 60).tolist()]
TRUE = sum(SPECTRUM)


def estimates(count, **settings):
    H = problems.symmetric(SPECTRUM)
    return [
        trace(H, method="hutchinson", generator=problems.generator(seed), **settings)
        for seed in range(count)
    ]


def test_a_diagonal_matrix_needs_no_more_than_the_first_draws():
    found = trace(torch.diag(torch.tensor([3.0, -1.0, 2.5])))
    assert (found.value, found.stderr, found.samples) == (4.5, 0.0, 20)
    assert found.converged


@pytest.mark.slow
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
    found = trace(H, method="hutchinson", rtol=1e-9, max_samples=4000)
    expected = float(2 * off.square().sum()) ** 0.5
    assert found.stderr * 4000**0.5 == pytest.approx(expected, rel=0.06)


def test_it_stops_when_the_standard_error_is_as_asked_and_not_before():
    for found in estimates(20, rtol=0.05):
        assert found.converged
        assert found.stderr <= 0.05 * abs(found.value)
        assert abs(found.value - TRUE) < 5 * found.stderr
        assert found.samples > 20


@pytest.mark.slow
def test_stopping_early_costs_the_standard_errors_little_of_their_coverage():
    found = estimates(600, rtol=0.1)
    assert 30 < sum(e.samples for e in found) / 600 < 45
    held = sum(abs(e.value - TRUE) < 1.96 * e.stderr for e in found) / 600
    # 0.92 over 2,000 seeds, where draws of a fixed number have 0.95.
    assert 0.88 < held <= 0.96


MANY = torch.tensor([10.0, 7.0, -3.0, *torch.linspace(-0.2, 1.0, 197).tolist()])


def deflated(seed, **settings):
    H = problems.symmetric(MANY.tolist())
    return trace(H, method="deflated", generator=problems.generator(seed), **settings)


@pytest.mark.slow
def test_what_is_taken_out_leaves_the_trace_and_its_standard_error_right():
    found = [deflated(s, rtol=1e-9, max_samples=40) for s in range(150)]
    scores = torch.tensor([(e.value - float(MANY.sum())) / e.stderr for e in found])
    assert abs(float(scores.mean())) < 4 / 150**0.5
    assert 0.55 < float((scores.abs() < 1).double().mean()) < 0.8
    plain = trace(
        problems.symmetric(MANY.tolist()), method="hutchinson", max_samples=40
    )
    assert found[0].stderr < plain.stderr / 2


def test_a_rank_within_the_space_taken_out_is_exact():
    H = problems.symmetric([3.0, 2.0, 1.0, -1.0, *[0.0] * 60])
    found = trace(H, method="deflated")
    assert found.value == pytest.approx(5.0, abs=1e-9)
    assert found.stderr < 1e-9
    assert found.cost.products == 30 + 20


PARTS = {"first": slice(0, 50), "second": slice(50, 60), "third": slice(60, 200)}


class Named:
    """A matrix whose rows belong to tensors with names."""

    def __init__(self, matrix):
        self.slices = PARTS
        self.matrix, self.shape = matrix, tuple(matrix.shape)
        self.dtype, self.device = matrix.dtype, matrix.device

    def __matmul__(self, other):
        return self.matrix @ other


@pytest.mark.parametrize("method", ["hutchinson", "deflated"])
def test_tensors_have_traces_and_errors_of_their_own_that_add_up(method):
    H = problems.symmetric(MANY.tolist())
    found = trace(Named(H), method=method, rtol=1e-9, max_samples=400)
    tensors = found.details["by_tensor"]
    total = sum(e.value for e in tensors.values())
    assert total == pytest.approx(found.value, rel=1e-12)
    for name, rows in PARTS.items():
        true = float(H.diagonal()[rows].sum())
        assert abs(tensors[name].value - true) < 4 * tensors[name].stderr
        assert tensors[name].stderr < 0.5 * abs(true) + 0.5


def test_many_draws_are_avoided_by_a_space_taken_out():
    H = problems.symmetric(MANY.tolist())
    found = trace(H, rtol=0.01)
    assert found.details["method"] == "deflated"
    assert found.converged
    plain = trace(H, rtol=0.01, method="hutchinson")
    assert found.cost.products < plain.cost.products / 2
    assert trace(H, rtol=0.3).details["method"] == "hutchinson"


def test_an_operator_that_knows_its_trace_is_asked():
    class Knows(Named):
        def exact_trace(self):
            return Estimate(value=12.0)

    H = problems.symmetric(MANY.tolist())
    assert trace(Knows(H)).value == 12
    assert trace(Knows(H), method="hutchinson").value != 12
    with pytest.raises(SettingError, match="no exact trace"):
        trace(H, method="exact")


@pytest.mark.slow
def test_the_frobenius_norm_covers_the_truth():
    H = problems.symmetric(MANY.tolist())
    true = float(MANY.double().square().sum().sqrt())
    found = [
        frobenius(H, rtol=1e-9, max_samples=30, generator=problems.generator(seed))
        for seed in range(150)
    ]
    scores = torch.tensor([(e.value - true) / e.stderr for e in found])
    assert abs(float(scores.mean())) < 4 / 150**0.5
    assert 0.55 < float((scores.abs() < 1).double().mean()) < 0.8
    asked = frobenius(H, rtol=0.005)
    assert asked.converged
    assert asked.value == pytest.approx(true, rel=0.02)


def test_the_frobenius_norm_of_nothing_is_zero():
    found = frobenius(torch.zeros(40, 40))
    assert (found.value, found.stderr, found.converged) == (0.0, 0.0, True)


def test_the_diagonal_covers_the_truth_entry_by_entry():
    H = problems.symmetric(MANY.tolist())
    found = diagonal(H, rtol=0.1)
    assert found.converged
    true = H.diagonal()
    assert float(found.stderr.norm() / found.values.norm()) <= 0.1
    scores = (found.values - true) / found.stderr
    assert 0.6 < float((scores.abs() < 1).double().mean()) < 0.76
    assert not diagonal(H, rtol=0.01, max_samples=25).converged


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


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, 1e-30), (torch.float32, 1e25), (torch.float16, 300.0)],
)
def test_a_norm_is_not_lost_where_its_square_is_out_of_range(dtype, scale):
    H = (scale * problems.symmetric(MANY.tolist())).to(dtype)

    class Narrow(Named):
        def __matmul__(self, other):
            return (self.matrix.double() @ other.double()).to(dtype)

    found = frobenius(Narrow(H), rtol=0.02)
    assert found.converged
    assert found.value == pytest.approx(float(H.double().norm()), rel=0.06)


def test_a_diagonal_stops_where_the_first_process_does():
    class Second(Named):
        """Of a process that is told what the first one found."""

        def agreed(self, values):
            return torch.tensor([1.0, 1.0])  # errors as large as the diagonal

    H = torch.diag(torch.tensor([3.0, 1.0]))
    found = diagonal(Second(H), max_samples=25)
    assert (found.samples, found.converged) == (25, False)
    assert diagonal(Named(H), max_samples=25).samples == 20


def test_a_small_matrix_is_known_from_as_many_products_as_it_has_rows():
    values = torch.linspace(-1, 5, 12, dtype=torch.float64)
    H = problems.symmetric(values.tolist()) + 3
    found = trace(H, method="deflated")
    assert found.value == pytest.approx(float(values.sum()) + 36, rel=1e-12)
    assert found.stderr < 1e-12
    assert (found.details["method"], found.cost.products) == ("deflated", 12 + 20)
    assert trace(H, rtol=1e-3).stderr < 1e-12
    norm = frobenius(H)
    assert norm.value == pytest.approx(float(H.norm()), rel=1e-12)
    assert norm.converged
