"""Folded networks compute the same; their weights are those of closed forms."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import UsageError
from steppe.objective import Objective
from steppe.symmetries.batch_norm_folding import find_layers, tensors_of_model


class Residual(nn.Module):
    """Batch norm behind a layer, before one, and behind a sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm_first = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.norm_second = nn.BatchNorm2d(4, affine=False)
        self.norm_sum = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 6, 2, groups=2)
        self.norm_up = nn.BatchNorm2d(6)
        self.hidden = nn.Linear(6, 5)
        self.norm_hidden = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, problems.CLASSES)

    def forward(self, x):
        x = F.relu(self.norm_first(self.first(x)))
        x = F.relu(self.norm_sum(x + self.norm_second(self.second(x))))
        x = F.relu(self.norm_up(self.up(x))).mean((2, 3))
        return self.head(F.relu(self.norm_hidden(self.hidden(x))))


def residual():
    model = problems.drawn(Residual())
    for seed, module in enumerate(model.modules()):
        if hasattr(module, "running_mean"):
            problems.normed(module, seed)
    return model, problems.vectors(shape=(1, 5, 5))


NETWORKS = {**problems.networks(), "residual": residual()}


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_a_folded_network_keeps_its_outputs(kind):
    model, data = NETWORKS[kind]
    before = problems.state_of(model)
    objective = problems.objective(model, data)
    layers = find_layers(objective)
    folded = layers.folded(tensors_of_model(model))
    problems.assert_same(problems.state_of(model), before)
    assert objective.cost.forwards == pytest.approx(1 / 3)
    again = copy.deepcopy(model).eval()
    outputs = torch.func.functional_call(again, folded, (data[0],))
    expected = model.eval()(data[0])
    model.train()
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-12)


def test_the_layers_of_a_residual_network():
    model, data = NETWORKS["residual"]
    layers = find_layers(problems.objective(model, data))
    norms = {layer.name: layer.norm for layer in layers.layers}
    assert norms == {
        "first.weight": "norm_first",
        "second.weight": "norm_second",
        "up.weight": "norm_up",
        "hidden.weight": "norm_hidden",
        "head.weight": None,
        "norm_sum": "norm_sum",
    }
    assert not layers.left_out


def test_the_folded_weight_is_that_of_its_formula():
    model, data = NETWORKS["batch_norm"]
    (layer, head) = find_layers(problems.objective(model, data)).layers
    tensors = tensors_of_model(model)
    conv, norm = model[0], model[1]
    scale = norm.weight / (norm.running_var + norm.eps) ** 0.5
    weight = conv.weight * scale[:, None, None, None]
    shift = (conv.bias - norm.running_mean) * scale + norm.bias
    torch.testing.assert_close(
        layer.weight(tensors), weight.detach(), rtol=1e-14, atol=0
    )
    torch.testing.assert_close(layer.shift(tensors), shift.detach(), rtol=1e-13, atol=0)
    assert torch.equal(head.weight(tensors), model[4].weight.detach())
    assert layer.size == (1, 4, 4)


def test_a_filter_rescaled_before_batch_norm_has_the_same_folded_weight():
    model, data = problems.networks()["batch_norm"]
    before = find_layers(problems.objective(model, data)).layers[0]
    weights = [before.weight(tensors_of_model(model))]
    with torch.no_grad():
        model[0].weight.mul_(7.0)
        model[0].bias.mul_(7.0)
        model[1].running_mean.mul_(7.0)
        model[1].running_var.copy_((model[1].running_var + 1e-5) * 49 - 1e-5)
    weights.append(before.weight(tensors_of_model(model)))
    torch.testing.assert_close(*weights, rtol=1e-12, atol=0)


class TwoReaders(nn.Module):
    """The output of a layer goes past the batch norm, too."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x)
        return self.head(x + self.norm(x))


def test_an_output_with_another_reader_is_not_folded():
    model, data = problems.drawn(TwoReaders()), problems.vectors()
    problems.normed(model.norm)
    layers = find_layers(problems.objective(model, data))
    assert [layer.name for layer in layers.layers] == [
        "first.weight",
        "head.weight",
        "norm",
    ]
    folded = layers.folded(tensors_of_model(model))
    found = torch.func.functional_call(copy.deepcopy(model).eval(), folded, (data[0],))
    torch.testing.assert_close(found, model.eval()(data[0]), rtol=0, atol=1e-12)


def test_in_mode_train_the_layers_are_those_of_the_evaluated_network():
    model, data = NETWORKS["batch_norm"]
    layers = [
        find_layers(problems.objective(model, data, mode=mode)).layers
        for mode in ("eval", "train")
    ]
    assert layers[0] == layers[1]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        for layer in self.layers:
            x = self.norm(layer(x))
        return x[:, :3]


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return F.batch_norm(self.layer(x), torch.zeros(3).to(x), torch.ones(3).to(x))


def test_what_has_no_rule_is_one_sentence():
    refusals = {
        "twice": ((problems.drawn(Twice()), problems.vectors()), "more than once"),
        "own": ((problems.drawn(Functional()), problems.vectors()), "as a module"),
        "bilinear": (
            (problems.drawn(Pairs()), problems.vectors()),
            "pairs.weight enters the operation",
        ),
    }
    for (model, data), message in refusals.values():
        with pytest.raises(UsageError, match=message) as error:
            find_layers(Objective(model, data))
        assert "\n" not in str(error.value)


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.pairs = nn.Bilinear(4, 4, 3)

    def forward(self, x):
        return self.pairs(x, x)
