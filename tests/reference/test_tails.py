"""Spectra of weight matrices against laws that are known, and against numbers of
weightwatcher 0.7.7 and powerlaw 2.0.0 for the matrices of `matrix`, in float32."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import problems
from steppe.errors import DataError, UsageError
from steppe.linalg.power_law import fit_tail
from steppe.linalg.random_matrices import bulk_edge, largest_by_chance
from steppe.measures import HeavyTails, LogMatrixNorm, ShufflingDistance, measure
from steppe.objective import Objective


def matrix(kind):
    source = np.random.default_rng(7)
    if kind == "heavy":
        return source.standard_t(2.5, size=(60, 90))
    if kind == "gauss":
        return source.standard_normal((80, 120)) / 10
    entries = source.standard_normal((100, 64)) / 10
    left, right = source.standard_normal(100), source.standard_normal(64)
    rank_one = np.outer(left, right) / np.linalg.norm(left) / np.linalg.norm(right)
    return entries + 3 * rank_one


def layer(weight):
    """An objective of one linear layer with these weights."""
    rows, columns = weight.shape
    model = nn.Linear(columns, rows, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(weight))
    return Objective(model, (torch.zeros(2, columns).double(), torch.tensor([0, 1])))


# WeightWatcher(model).analyze(min_evals=20) of a linear layer with each matrix.
PUBLISHED = {
    "heavy": {
        "alpha": 2.7687539998484167,
        "stderr": 0.361045398344618,
        "start": 325.74246988775445,
        "distance": 0.13475328233174083,
        "points": 24,
        "alpha_hat": 8.644698391294959,
        "log_alpha_norm": 9.288234153845552,
        "log_frobenius": 4.284639562299116,
        "log_spectral": 3.1222341861242415,
        "stable_rank": 14.53467670428769,
    },
    "gauss": {
        "alpha": 6.401747863629683,
        "stderr": 1.5593502915805417,
        "start": 2.437768873402282,
        "distance": 0.14819103452647514,
        "points": 12,
        "alpha_hat": 3.6228688101598054,
        "log_alpha_norm": 4.249853259636082,
        "log_frobenius": 1.9738297007390995,
        "log_spectral": 0.5659186971018412,
        "stable_rank": 25.580616308583167,
    },
    "spiked": {
        "alpha": 4.290348718584325,
        "stderr": 0.9920774662700815,
        "start": 2.0079080229366078,
        "distance": 0.09827597601529853,
        "points": 11,
        "alpha_hat": 4.440862824087417,
        "log_alpha_norm": 4.449488991753731,
        "log_frobenius": 1.8617906031397935,
        "log_spectral": 1.0350820213870067,
        "stable_rank": 6.70978465010308,
    },
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_it_gives_the_numbers_of_the_published_package(kind):
    expected = dict(PUBLISHED[kind])
    names = {
        "log_frobenius": "log_matrix_norm:norm=frobenius",
        "log_spectral": "log_matrix_norm:norm=spectral",
        "stable_rank": "stable_rank",
    }
    found = measure(layer(matrix(kind)), ["heavy_tails", *names.values()])
    for key, name in names.items():
        assert found[name].value == pytest.approx(expected.pop(key), rel=1e-7), key
    fit = found["heavy_tails"].details["by_layer"]["weight"]
    assert {key: fit[key] for key in expected} == pytest.approx(expected, rel=1e-6)
    for quantity in ("alpha", "alpha_hat", "log_alpha_norm"):
        single = HeavyTails(quantity=quantity)(layer(matrix(kind)))
        assert single.value == pytest.approx(expected[quantity], rel=1e-6)


def test_it_gives_the_numbers_of_powerlaw():
    eigenvalues = np.linalg.svd(matrix("heavy"), compute_uv=False) ** 2
    tail = fit_tail(eigenvalues)
    # powerlaw.Fit(eigenvalues).power_law; its other exponents end at 3 by default.
    assert tail.exponent == pytest.approx(2.7687539951160636, rel=1e-12)
    assert tail.stderr == pytest.approx(0.36104539737863045, rel=1e-12)
    assert tail.start == pytest.approx(325.7424694383438, rel=1e-12)
    assert tail.distance == pytest.approx(0.13475328574004658, rel=1e-10)
    assert tail.points == 24


def test_positions_of_a_kernel_are_pooled():
    source = np.random.default_rng(3)
    kernel = torch.tensor(source.standard_t(3, size=(64, 20, 3, 3)))
    model = nn.Sequential(nn.Conv2d(20, 64, 3, bias=False), nn.Flatten()).double()
    with torch.no_grad():
        model[0].weight.copy_(kernel)
    data = (torch.zeros(2, 20, 3, 3).double(), torch.tensor([0, 1]))
    found = HeavyTails(kernel="positions")(Objective(model, data))
    fit = found.details["by_layer"]["0.weight"]
    assert fit["alpha"] == pytest.approx(3.1256082633569227, rel=1e-6)
    assert fit["distance"] == pytest.approx(0.050214256172770866, rel=1e-5)
    assert (fit["points"], fit["eigenvalues"]) == (53, 180)
    # weightwatcher divides each matrix of a convolution by the root of 2.
    assert fit["start"] == pytest.approx(2 * 110.63586821310122, rel=1e-6)


def test_a_transposed_convolution_has_its_outputs_in_the_rows():
    model = problems.drawn(nn.ConvTranspose2d(3, 4, 2, bias=False))
    data = (torch.zeros(2, 3, 1, 1).double(), torch.zeros(2, 2, 2).long())
    found = LogMatrixNorm()(Objective(model, data))
    rows = model.weight.detach().transpose(0, 1).reshape(4, 12)
    largest = torch.linalg.svdvals(rows)[0]
    assert found.value == pytest.approx(2 * math.log10(largest), rel=1e-12)


def pareto(exponent, start, points, seed):
    shares = np.random.default_rng(seed).random(points)
    return start * (1 - shares) ** (-1 / (exponent - 1))


def test_the_exponent_of_a_pareto_law_lies_within_its_error():
    # From its true start on, the error of the exponent is that of the formula.
    errors = []
    for seed in range(2000):
        sample = np.sort(pareto(2.7, 3.0, 400, seed))
        decay = 1 / np.log(sample[1:] / sample[0]).mean()
        errors.append((decay - 1.7) / (decay / math.sqrt(399)))
    assert 0.93 < np.mean(np.abs(errors) < 1.96) < 0.97
    tail = fit_tail(pareto(2.7, 3.0, 4000, seed=1))
    assert tail.exponent == pytest.approx(2.7, abs=4 * tail.stderr)


def test_the_start_of_a_tail_is_located():
    body = np.random.default_rng(0).uniform(0.5, 4.0, 1500)
    tail = fit_tail(np.concatenate([body, pareto(3.0, 4.0, 500, seed=2)]))
    assert tail.start == pytest.approx(4.0, rel=0.2)
    assert tail.exponent == pytest.approx(3.0, abs=4 * tail.stderr)


def test_scaling_moves_the_start_and_nothing_else():
    sample = pareto(2.2, 1.0, 120, seed=5)
    one, ten = fit_tail(sample), fit_tail(10 * sample)
    assert ten.exponent == pytest.approx(one.exponent, rel=1e-9)
    assert ten.start == pytest.approx(10 * one.start)
    assert ten.points == one.points


def test_numbers_without_a_tail_are_refused():
    for sample in ([1.0], [2.0, 2.0], [0.0, 1.0]):
        with pytest.raises(DataError, match="two different positive numbers"):
            fit_tail(np.array(sample))


def test_few_eigenvalues_are_undefined_layer_by_layer():
    objective = problems.objective(problems.mlp(), problems.vectors())
    with pytest.raises(UsageError, match=r"has 4 eigenvalues.* least 50.*lower min_e"):
        HeavyTails()(objective)
    found = HeavyTails(min_eigenvalues=4)(objective)
    assert list(found.details["by_layer"]) == ["0.weight", "2.weight"]
    assert "3 eigenvalues" in found.details["undefined"]["4.weight"]


def test_zeros_are_undefined():
    objective = layer(np.zeros((3, 2)))
    for name in ("stable_rank", "log_matrix_norm", "bulk_excess", "shuffling_distance"):
        with pytest.raises(UsageError, match="weight has no entry other than zero"):
            measure(objective, [name])


def test_random_matrices_end_near_the_edge():
    largest, beyond = [], 0
    source = np.random.default_rng(0)
    for _ in range(400):
        entries = 0.3 * source.standard_normal((60, 40))
        largest.append(np.linalg.norm(entries, 2) ** 2)
        beyond += largest[-1] > largest_by_chance(60, 40, 0.09)
    assert np.mean(largest) == pytest.approx(bulk_edge(60, 40, 0.09), rel=0.08)
    assert 0.02 < beyond / 400 < 0.08
    assert bulk_edge(60, 40, 0.09) == bulk_edge(40, 60, 0.09)


def test_a_spike_is_counted():
    found = measure(layer(matrix("spiked")), ["bulk_excess"])["bulk_excess"]
    assert found.details["by_layer"]["weight"]["spikes"] == 1
    assert found.value > 2
    none = measure(layer(matrix("gauss")), ["bulk_excess"])["bulk_excess"]
    assert none.details["by_layer"]["weight"]["spikes"] == 0
    assert none.value == pytest.approx(1, abs=0.1)


def test_the_distance_to_a_shuffled_matrix_is_that_between_the_spectra():
    weight = np.diag([3.0, 1.0])  # shuffled: two entries in one line, or not
    found = ShufflingDistance(samples=3000)(layer(weight))
    # In one line the eigenvalues are 10 and 0, else 9 and 1: distances 1 / 5 and 0.
    assert found.value == pytest.approx(2 / 3 / 5, abs=4 * found.stderr)
    p = 2 / 3
    assert found.stderr == pytest.approx(math.sqrt(p * (1 - p) / 3000) / 5, rel=0.05)


@pytest.mark.slow
def test_intervals_of_the_distance_cover_it():
    weight = np.diag([3.0, 1.0])
    objective = layer(weight)
    covered = 0
    for seed in range(400):
        measured = ShufflingDistance(samples=40)(
            objective, generator=problems.generator(seed)
        )
        low, high = measured.interval(0.95)
        covered += low <= 2 / 15 <= high
    assert 0.91 < covered / 400 < 0.98
