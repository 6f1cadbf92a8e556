"""Norms of layers and margins against numpy, dense matrices and enumerated paths."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import DataError, SettingError, UsageError
from steppe.measures import (
    DistanceFromStart,
    FrobeniusNorms,
    FrobeniusOverSpectral,
    InverseMargin,
    ParameterCount,
    ParameterNorm,
    PathNorm,
    SpectralComplexity,
    SpectralNorms,
)
from steppe.objective import Objective


def relu_net():
    return problems.objective(problems.mlp(nn.ReLU), problems.vectors())


def weights_of(model):
    return [p.detach().numpy() for p in model.parameters() if p.dim() > 1]


def spectral(matrix):
    return np.linalg.svd(matrix, compute_uv=False)[0]


def folded(model):
    """Weights of the convolution and the head of `problems.cnn`, by the formula."""
    conv, norm, head = model[0], model[1], model[4]
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    return weight.detach().numpy(), head.weight.detach().numpy()


def dense(convolution, size):
    """The convolution without its bias as a matrix, column by column."""
    basis = torch.eye(math.prod(size), dtype=torch.float64).view(-1, *size)
    bare = copy.deepcopy(convolution)
    bare.bias = None
    with torch.no_grad():
        return bare(basis).flatten(1).T.numpy()


def margins(objective):
    x, y = (torch.cat(parts) for parts in zip(*objective.batches, strict=True))
    scores = objective.model.eval()(x).detach().numpy()
    return sorted(
        row[label] - max(np.delete(row, label))
        for row, label in zip(scores, y.tolist(), strict=True)
    )


def test_products_of_a_chain_of_linear_layers():
    objective = relu_net()
    weights = weights_of(objective.model)
    margin = margins(objective)[0]  # of seven, a tenth is the least one
    for measure, of in ((SpectralNorms, spectral), (FrobeniusNorms, np.linalg.norm)):
        product = np.prod([of(w) ** 2 for w in weights])
        expected = {
            ("log_product", False): math.log(product),
            ("log_product", True): math.log(product / margin**2),
            ("sum", False): 3 * product ** (1 / 3),
            ("sum", True): 3 * (product / margin**2) ** (1 / 3),
        }
        for (form, over), value in expected.items():
            found = measure(form=form, margin=over)(objective)
            assert found.value == pytest.approx(value, rel=1e-12)
            log = math.log(value) if form == "sum" else value
            adjusted = (log - math.log(7)) / 2
            assert found.details["adjusted"] == pytest.approx(adjusted, rel=1e-12)
            assert found.details["margin"] is over


def test_the_other_sums_of_a_chain():
    objective = relu_net()
    weights = weights_of(objective.model)
    ratio = sum((np.linalg.norm(w) / spectral(w)) ** 2 for w in weights)
    found = FrobeniusOverSpectral()(objective)
    assert found.value == pytest.approx(ratio, rel=1e-12)
    assert found.details["adjusted"] == pytest.approx(math.sqrt(ratio / 7), rel=1e-12)
    squares = sum((w**2).sum() for w in weights)
    assert ParameterNorm()(objective).value == pytest.approx(squares, rel=1e-12)
    count = ParameterCount()(objective)
    assert (count.value, count.details["weights"]) == (4 * 6 + 6 * 5 + 5 * 3 + 14, 69)


def test_distances_to_the_start():
    objective = relu_net()
    start = problems.mlp(nn.ReLU, seed=4)
    pairs = zip(weights_of(objective.model), weights_of(start), strict=True)
    moved = [end - begin for end, begin in pairs]
    for given in (start, start.state_dict()):
        found = DistanceFromStart()(objective, start=given)
        assert found.value == pytest.approx(sum((m**2).sum() for m in moved))
    found = DistanceFromStart(norm="spectral")(objective, start=start)
    assert found.value == pytest.approx(sum(spectral(m) ** 2 for m in moved))
    weights = weights_of(objective.model)
    product = np.prod([spectral(w) ** 2 for w in weights]) / margins(objective)[0] ** 2
    terms = zip(moved, weights, strict=True)
    relative = sum((m**2).sum() / spectral(w) ** 2 for m, w in terms)
    found = SpectralComplexity()(objective, start=start)
    assert found.value == pytest.approx(math.log(product * relative), rel=1e-12)
    relative = sum((w**2).sum() / spectral(w) ** 2 for w in weights)
    found = SpectralComplexity(reference="origin")(objective)
    assert found.value == pytest.approx(math.log(product * relative), rel=1e-12)


def test_batch_norm_is_folded_at_the_end_and_at_the_start():
    model, data = problems.networks()["batch_norm"]
    start = problems.cnn(seed=3)
    objective = problems.objective(model, data)
    ends, begins = folded(model), folded(start)
    assert ParameterNorm()(objective).value == pytest.approx(
        sum((w**2).sum() for w in ends), rel=1e-12
    )
    found = DistanceFromStart()(objective, start=start)
    moved = sum(((a - b) ** 2).sum() for a, b in zip(ends, begins, strict=True))
    assert found.value == pytest.approx(moved, rel=1e-12)
    parameters = dict(start.named_parameters())
    with pytest.raises(SettingError, match=r"start must have .* no 1\.running_mean"):
        DistanceFromStart()(objective, start=parameters)


CONVOLUTIONS = {
    "padded": (nn.Conv2d(2, 3, 3, padding=1), (2, 5, 4)),
    "strided": (nn.Conv2d(3, 2, 2, stride=2, bias=False), (3, 5, 6)),
    "dilated": (nn.Conv2d(2, 2, 2, dilation=2, padding=2), (2, 4, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (4, 4, 4)),
    "one dimension": (nn.Conv1d(2, 3, 3), (2, 7)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1), (2, 3, 3)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_the_norm_of_a_convolution_is_that_of_its_matrix(kind):
    layer, size = CONVOLUTIONS[kind]
    layer = problems.drawn(layer)
    model = nn.Sequential(layer, nn.Flatten())
    data = (torch.ones(2, *size).double(), torch.tensor([0, 1]))
    found = SpectralNorms()(Objective(model, data))
    largest = spectral(dense(layer, size))
    assert found.value == pytest.approx(2 * math.log(largest), rel=1e-9)
    assert found.converged
    matrix = SpectralNorms(convolution="matrix")(Objective(model, data))
    by_output = layer.weight.detach()
    by_output = by_output.transpose(0, 1) if kind == "transposed" else by_output
    expected = spectral(by_output.flatten(1).numpy())
    assert matrix.value == pytest.approx(2 * math.log(expected), rel=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_circular_norm_is_that_of_a_convolution_around_the_edges(groups):
    layer = problems.drawn(nn.Conv2d(2, 4, 3, groups=groups, bias=False))
    model = nn.Sequential(layer, nn.Flatten())
    data = (torch.ones(2, 2, 5, 4).double(), torch.tensor([0, 1]))
    found = SpectralNorms(convolution="circular")(Objective(model, data))
    around = problems.drawn(
        nn.Conv2d(
            2, 4, 3, padding=1, groups=groups, padding_mode="circular", bias=False
        )
    )
    around.weight = layer.weight
    largest = spectral(dense(around, (2, 5, 4)))
    assert found.value == pytest.approx(2 * math.log(largest), rel=1e-12)


def test_the_path_norm_is_the_sum_over_all_paths():
    objective = relu_net()
    first, second, third = (m for m in objective.model if isinstance(m, nn.Linear))
    A, B, C = (m.weight.detach().square().numpy() for m in (first, second, third))
    a, b, c = (m.bias.detach().square().numpy() for m in (first, second, third))
    total = c.sum()
    for k, j in itertools.product(range(3), range(5)):
        total += C[k, j] * b[j]
        for i in range(6):
            total += C[k, j] * B[j, i] * (a[i] + A[i].sum())
    assert PathNorm()(objective).value == pytest.approx(total, rel=1e-12)
    over = PathNorm(margin=True)(objective)
    assert over.value == pytest.approx(total / margins(objective)[0] ** 2, rel=1e-12)


def test_the_path_norm_of_a_convolution_with_batch_norm():
    model, data = problems.networks()["batch_norm"]
    model[2] = nn.ReLU()
    conv, norm, head = model[0], model[1], model[4]
    weight, _ = folded(model)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    shift = ((conv.bias - norm.running_mean) * scale + norm.bias).detach()
    ones = torch.ones(1, 1, 4, 4).double()
    hidden = F.conv2d(ones, torch.as_tensor(weight) ** 2, shift**2)
    expected = F.linear(hidden.flatten(1), head.weight**2, head.bias**2).sum()
    found = PathNorm()(problems.objective(model, data))
    assert found.value == pytest.approx(expected.item(), rel=1e-12)


def test_margins_are_those_of_the_scores():
    objective = relu_net()
    found = InverseMargin()(objective)
    least = margins(objective)[0]
    assert found.value == pytest.approx(least**-2, rel=1e-12)
    assert found.details["percentile"] == pytest.approx(least, rel=1e-12)
    many = problems.objective(problems.mlp(nn.ReLU), problems.vectors(n=64))
    found = InverseMargin()(many)
    assert found.details["percentile"] == pytest.approx(margins(many)[5], rel=1e-12)


def test_margins_of_sequences_and_of_ignored_terms():
    model = problems.linear()
    x, y = problems.vectors(12)
    flat = InverseMargin()(Objective(model, (x, y)))
    tokens = Objective(model, (x.view(3, 4, 4), y.view(3, 4)))
    assert InverseMargin()(tokens).value == pytest.approx(flat.value, rel=1e-12)
    y[:4] = -100
    kept = InverseMargin()(Objective(model, (x[4:], y[4:])))
    assert InverseMargin()(Objective(model, (x, y))).value == kept.value


def test_filters_rescaled_before_batch_norm_change_nothing():
    model, data = problems.networks()["batch_norm"]
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[0].weight.mul_(5.0)
        scaled[0].bias.mul_(5.0)
        scaled[1].running_mean.mul_(5.0)
        scaled[1].running_var.copy_((model[1].running_var + 1e-5) * 25 - 1e-5)
    products = (SpectralNorms(), FrobeniusNorms())
    for measure in (*products, FrobeniusOverSpectral(), ParameterNorm()):
        one, other = (measure(problems.objective(m, data)) for m in (model, scaled))
        assert other.value == pytest.approx(one.value, rel=1e-9)


def test_what_is_undefined_is_one_sentence():
    x, y = problems.vectors()
    regression = Objective(problems.linear(), (x, x[:, :3]), loss="mse")
    equal = nn.Linear(4, 3).double()
    nn.init.zeros_(equal.weight)
    nn.init.zeros_(equal.bias)
    tokens = Objective(nn.Sequential(nn.Embedding(9, 3)), (y, y))
    cases = [
        (InverseMargin(), regression, UsageError, "at least two classes"),
        (InverseMargin(), Objective(equal, (x, y)), DataError, "finite and not 0"),
        (SpectralNorms(), Objective(equal, (x, y)), DataError, "weight has the norm 0"),
        (DistanceFromStart(), relu_net(), UsageError, "start of the training"),
        (SpectralComplexity(), relu_net(), UsageError, "start of the training"),
        (PathNorm(), tokens, UsageError, "one floating tensor"),
        (
            PathNorm(),
            problems.objective(problems.mlp(), problems.vectors()),
            UsageError,
            "has Tanh",
        ),
    ]
    for measure, objective, error, message in cases:
        with pytest.raises(error, match=message) as caught:
            measure(objective)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="weights that have moved"):
        SpectralComplexity()(relu_net(), start=relu_net().model)


def test_parameters_that_are_no_layer_are_named_by_the_folding():
    model, data = problems.networks()["attention"]
    found = SpectralNorms()(problems.objective(model, data))
    names = set(found.details["by_layer"])
    assert names == {n for n, p in model.named_parameters() if p.dim() > 1}
