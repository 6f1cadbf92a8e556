"""Balanced coordinates: the same function, filters of length one, by hand."""

import copy

import pytest
import torch
from torch import nn

import problems
from steppe.curvature.hessian import Hessian
from steppe.objective import Objective
from steppe.symmetries.balancing import Balanced, balancing_scales


def scales_of(model):
    named = dict(model.named_parameters())
    return dict(zip(named, balancing_scales(model, [*named.values()]), strict=True))


@pytest.mark.parametrize("kind", problems.networks())
def test_the_outputs_stay_and_scales_times_coordinates_are_the_parameters(kind):
    model, (x, _) = problems.networks()[kind]
    model.eval()
    balanced = Balanced(model).eval()
    torch.testing.assert_close(balanced(x), model(x), rtol=0, atol=1e-12)
    triples = zip(
        model.parameters(), balanced.scales, balanced.coordinates, strict=True
    )
    for p, scale, coordinate in triples:
        torch.testing.assert_close(scale * coordinate, p, rtol=1e-14, atol=0)


def test_filters_have_their_norm_and_the_size_of_their_bias():
    model = problems.cnn()
    found = scales_of(model)
    kernel, bias, norm, head = model[0].weight, model[0].bias, model[1], model[4]
    for i in range(3):
        length = kernel[i].square().sum() ** 0.5 + abs(bias[i])
        torch.testing.assert_close(found["0.weight"][i].squeeze(), length)
        torch.testing.assert_close(found["0.bias"][i], length)
        channel = abs(norm.weight[i]) + abs(norm.bias[i])
        torch.testing.assert_close(found["1.weight"][i], channel)
        torch.testing.assert_close(found["1.bias"][i], channel)
        row = head.weight[i].norm() + abs(head.bias[i])
        torch.testing.assert_close(found["4.weight"][i].squeeze(), row)


@pytest.mark.parametrize("groups", [1, 2])
def test_filters_of_a_transposed_convolution_are_its_outputs(groups):
    layer = problems.drawn(nn.ConvTranspose2d(4, 6, 3, groups=groups))
    found = scales_of(layer)
    each = 6 // groups
    for output in range(6):
        group, column = divmod(output, each)
        rows = slice(group * 4 // groups, (group + 1) * 4 // groups)
        norm = layer.weight[rows, column].norm() + abs(layer.bias[output])
        torch.testing.assert_close(found["bias"][output], norm)
        for row in range(rows.start, rows.stop):
            torch.testing.assert_close(found["weight"][row, column, 0, 0], norm)


def test_other_vectors_have_their_norm_and_zero_filters_none():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.PReLU(3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    found = scales_of(model)
    assert found["0.weight"].tolist() == [[5.0], [0.0]]
    torch.testing.assert_close(found["1.weight"], 0.25 * torch.tensor(3.0).sqrt())
    coordinates = Balanced(model).coordinates[0]
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0]])
    torch.testing.assert_close(coordinates.detach(), expected)


def test_a_parameter_that_is_shared_stays_one_and_a_frozen_one_stays_frozen():
    tied = problems.drawn(problems.Tied())
    assert len(list(tied.parameters())) == len(Balanced(tied).coordinates)
    model = problems.mlp()
    model[0].bias.requires_grad_(False)
    balanced = Balanced(model)
    assert "0.bias" not in balanced.names
    length = model[0].weight.norm(dim=1) + model[0].bias.abs()
    torch.testing.assert_close(balanced.scales[0].flatten(), length)


def test_the_hessian_in_balanced_coordinates_is_scaled_on_both_sides():
    model, data = problems.mlp(), problems.vectors()
    params = list(model.parameters())
    scales = balancing_scales(model, params)
    d = torch.cat(
        [s.expand_as(p).flatten() for s, p in zip(scales, params, strict=True)]
    )
    expected = d[:, None] * problems.dense_hessian(model, data) * d
    hessian = Hessian(problems.objective(Balanced(model), data))
    found = hessian @ torch.eye(len(d), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


class Multiplied(nn.Module):
    """A layer of filters, each with a constant factor behind it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(problems.INPUTS, problems.CLASSES)
        self.register_buffer("factor", torch.ones(problems.CLASSES).double())

    def forward(self, x):
        return self.factor * self.layer(x)


def test_the_balanced_network_does_not_depend_on_the_scales_of_filters():
    model, data = problems.drawn(Multiplied()), problems.vectors()
    scaled = copy.deepcopy(model)
    factors = torch.tensor([0.01, 3.0, 50.0]).double()
    with torch.no_grad():
        scaled.layer.weight.mul_(factors[:, None])
        scaled.layer.bias.mul_(factors)
        scaled.factor.div_(factors)
    one, two = (Balanced(each) for each in (model, scaled))
    for first, second in zip(one.coordinates, two.coordinates, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-13, atol=0)
    lengths = one.coordinates[0].norm(dim=1) + one.coordinates[1].abs()
    torch.testing.assert_close(lengths, torch.ones(3).double(), rtol=1e-13, atol=0)
    curvatures = [
        Hessian(Objective(each, data)) @ torch.eye(15).double() for each in (one, two)
    ]
    torch.testing.assert_close(*curvatures, rtol=1e-10, atol=1e-13)
