"""Normalized sharpness against geometric programs and dense Hessians."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import UsageError
from steppe.linalg.geometric_program import Term, solve
from steppe.linalg.row_column_scaling import least_sum
from steppe.measures import NormalizedSharpness, measure
from steppe.objective import Objective
from steppe.parameters import trainable


def drawn(rows, columns, spread, seed):
    source = np.random.default_rng(seed)
    logs = source.normal(scale=spread, size=(2, rows, columns))
    return torch.from_numpy(np.exp(logs))


@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 4), (3, 7)])
def test_the_least_sum_is_that_of_the_geometric_program(shape, spread):
    rows, columns = shape
    a, b = drawn(rows, columns, spread, seed=rows)
    # The first column is the stream whose scale is 1.
    stream = [0, *range(rows + 1, rows + columns)]
    pairs = [(i, j) for i in range(rows) for j in range(columns)]
    terms = [Term(float(a[i, j]), 1 + i, stream[j]) for i, j in pairs]
    terms += [Term(float(b[i, j]), stream[j], 1 + i) for i, j in pairs]
    found = least_sum(a, b)
    assert found.converged
    expected = solve(terms, rows + columns).value
    assert found.value == pytest.approx(expected, rel=1e-10)
    scales = (found.rows[:, None] + found.columns).exp()
    total = float((a * scales + b / scales).sum())
    assert total == pytest.approx(found.value, rel=1e-12)


def test_one_row_or_column_has_a_closed_form():
    a, b = drawn(1, 6, 1.0, seed=1)
    expected = float(2 * (a * b).sqrt().sum())
    for found in (least_sum(a, b), least_sum(a.T, b.T)):
        assert found.value == pytest.approx(expected, rel=1e-12)


def test_rows_and_columns_with_zeros_of_one_matrix_count_nothing():
    a, b = drawn(4, 5, 1.0, seed=2)
    expected = least_sum(a[1:, :3], b[1:, :3]).value
    a[0], b[:, 3], a[:, 4] = 0, 0, 0
    assert least_sum(a, b).value == pytest.approx(expected, rel=1e-12)
    assert least_sum(torch.zeros_like(a), b).value == 0


def by_definition(model, data, hessian):
    """The minimum of each layer by scipy, from a dense matrix."""
    named, diagonal = trainable(model), hessian.diagonal()
    start, total = 0, 0.0
    for p in named.values():
        h = diagonal[start : start + p.numel()].view_as(p)
        start += p.numel()
        if p.dim() < 2:
            continue
        a = h.flatten(1) if p.dim() == 2 else h.flatten(2).sum(2)
        w = p.detach().square()
        b = w if p.dim() == 2 else w.flatten(2).sum(2)
        total += least(a.numpy(), b.numpy())
    return total


def least(a, b):
    rows = len(a)

    def summed(x):
        scales = np.exp(x[:rows, None] + x[rows:])
        up, down = a * scales, b / scales
        apart = up - down
        return (up + down).sum(), np.concatenate([apart.sum(1), apart.sum(0)])

    return minimize(summed, np.zeros(sum(a.shape)), jac=True, tol=1e-14).fun


@pytest.mark.parametrize("name", ["relu", "tanh", "batch_norm"])
def test_it_is_the_definition_on_dense_matrices(name):
    model, data = problems.networks()[name]

    def blocks(z):
        p = z.softmax(1)
        return torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)

    matrix = problems.dense_quadratic(model, data, blocks)
    if name == "relu":
        dense = problems.dense_hessian(model, data)
        torch.testing.assert_close(matrix.diagonal(), dense.diagonal())
    found = NormalizedSharpness()(problems.objective(model, data))
    assert found.value == pytest.approx(by_definition(model, data, matrix), rel=1e-8)
    assert found.converged
    assert found.stderr == 0
    parts = found.details["by_tensor"]
    assert sum(parts.values()) == pytest.approx(found.value)


def test_groups_of_a_convolution_have_columns_of_their_own():
    both = problems.drawn(
        nn.Sequential(nn.Conv2d(4, 6, 2, groups=2), nn.ReLU(), nn.Flatten())
    )
    objective = Objective(
        both,
        (
            problems.vectors(shape=(4, 3, 3))[0],
            torch.zeros(7, 24).double(),
        ),
        loss="mse",
    )
    groups = NormalizedSharpness()(objective)
    single = copy.deepcopy(both)
    single[0].groups, single[0].in_channels = 1, 4
    weight = torch.zeros(6, 4, 2, 2).double()
    weight[:3, :2], weight[3:, 2:] = both[0].weight[:3], both[0].weight[3:]
    single[0].weight = nn.Parameter(weight.detach())
    whole = NormalizedSharpness()(Objective(single, objective.batches[0], loss="mse"))
    # Zeros of the whole weight cost nothing but have curvature, which may be escaped.
    assert 0 < groups.value <= whole.value * (1 + 1e-9)


def test_one_diagonal_serves_two_measures_and_none_of_the_bits_changes():
    model, data = problems.mlp(nn.ReLU), problems.vectors()
    objective = problems.objective(model, data)
    names = ["normalized_sharpness", "minimum_sharpness"]
    both = measure(objective, names)
    together = objective.cost.gradients
    for name in names:
        alone = measure(problems.objective(model, data), [name])[name]
        assert alone == both[name]
        assert together < sum(each.cost.gradients for each in both.values())


def test_labels_that_are_harder_to_fit_are_sharper():
    """The order that the publication reports, for wholly shuffled labels."""
    torch.manual_seed(0)
    x = torch.randn(60, 8).double()
    values = []
    for y in ((x[:, 0] > 0).long(), torch.randint(2, (60,))):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2)).double()
        opt = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        for _ in range(600):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
        assert float((model(x).argmax(1) == y).double().mean()) == 1
        values.append(NormalizedSharpness()(Objective(model, (x, y))).value)
    assert math.isfinite(values[1])
    assert values[0] < values[1]


def test_a_network_without_weights_of_two_dimensions_is_refused():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4).double())

        def forward(self, x):
            return x * self.w

    with pytest.raises(UsageError, match="a weight of two dimensions or more"):
        NormalizedSharpness()(problems.objective(Scale(), problems.vectors()))


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)


class CastWeight(nn.Linear):
    def forward(self, x):
        return F.linear(x.double(), self.weight.double(), self.bias.double())


def test_a_cast_inside_a_network_moves_the_value_by_its_rounding_alone():
    torch.manual_seed(3)
    data = torch.randn(20, 4), torch.randint(3, (20,))
    first, last = nn.Linear(4, 8), nn.Linear(8, 3)
    plain = nn.Sequential(first, nn.ReLU(), last)
    expected = NormalizedSharpness()(Objective(plain, data)).value
    coarse = copy.deepcopy(last).bfloat16()
    casts = (nn.Sequential(first, nn.ReLU(), Cast(torch.bfloat16), coarse),)
    casts += (nn.Sequential(*casts[0], Cast(torch.float32)),)
    for network in casts:
        value = NormalizedSharpness()(Objective(network, data)).value
        assert value == pytest.approx(expected, rel=0.05)

    def loss(model, batch):  # rounds the outputs of a network of float64
        outputs = model(batch[0].double()).float()
        return F.cross_entropy(outputs, batch[1], reduction="none")

    objective = Objective(plain, data, loss=loss)
    plain.double()
    assert NormalizedSharpness()(objective).value == pytest.approx(expected, rel=1e-3)


def test_a_weight_that_is_cast_before_its_operation_is_told():
    data = torch.randn(20, 4), torch.randint(3, (20,))
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), CastWeight(8, 3))
    with pytest.raises(UsageError, match=r"2\.weight must enter its .* own dtype"):
        NormalizedSharpness()(Objective(network, data))
