"""Relative flatness against its definition on dense Hessians."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import SettingError, UsageError
from steppe.losses import L2
from steppe.measures import RelativeFlatness, measure
from steppe.objective import Objective
from steppe.parameters import trainable

EXACT = {"rel": 1e-10}


def by_definition(model, data, name, hessian=None):
    """Sum over pairs of rows of <w_s, w_t> tr(H_st); and the trace of H."""
    named = trainable(model)
    sizes = [p.numel() for p in named.values()]
    at = list(named).index(name)
    start = sum(sizes[:at])
    W = named[name].detach().flatten(1)
    H = problems.dense_hessian(model, data) if hessian is None else hessian
    H = H[start : start + W.numel(), start : start + W.numel()]
    H = H.reshape(*W.shape, *W.shape)
    traces = torch.einsum("sitj,ij->st", H, torch.eye(W.shape[1]).double())
    return float((W @ W.T * traces).sum()), float(traces.trace()), W


NETS = ("tanh", "relu", "batch_norm", "attention")


@pytest.mark.parametrize("name", NETS)
def test_the_last_layer_is_the_definition(name):
    model, data = problems.networks()[name]
    weight = {"batch_norm": "4.weight", "attention": "head.weight"}.get(
        name, "4.weight"
    )
    value, trace, W = by_definition(model, data, weight)
    objective = problems.objective(model, data)
    found = RelativeFlatness()(objective)
    assert found.value == pytest.approx(value, **EXACT)
    assert (found.stderr, found.cost.forwards) == (0, 1)
    assert found.details["weight"] == weight
    published = RelativeFlatness(variant="published")(objective)
    assert published.value == pytest.approx(value / W.shape[1], **EXACT)
    fam = RelativeFlatness(variant="fam")(objective)
    assert fam.value == pytest.approx(float(W.norm()) * trace, **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["correct", "fam"])
@pytest.mark.parametrize(
    ("name", "layer"), [("tanh", "2"), ("tanh", "4.weight"), ("batch_norm", "0")]
)
def test_any_layer_is_the_definition_within_its_error(name, layer, variant):
    model, data = problems.networks()[name]
    weight = layer if layer.endswith("weight") else f"{layer}.weight"
    value, trace, W = by_definition(model, data, weight)
    expected = float(W.norm()) * trace if variant == "fam" else value
    measured = RelativeFlatness(layer=layer, samples=120, variant=variant)
    found = measured(problems.objective(model, data))
    assert 0 < found.stderr < 0.3 * abs(expected)
    assert abs(found.value - expected) < 4 * found.stderr
    assert found.cost.products == 120


@pytest.mark.slow
@pytest.mark.parametrize("layer", [None, "4"])
def test_squared_errors_and_penalties(layer):
    model, (x, _) = problems.mlp(), problems.vectors()
    targets = torch.zeros(7, problems.CLASSES).double()
    objective = Objective(
        model, (x, targets), loss="mse", batch_size=3, penalty=L2(0.1)
    )
    found = RelativeFlatness(layer=layer, samples=300)(objective)
    phi = torch.tanh(model[2](torch.tanh(model[0](x)))).detach()
    W = model[4].weight.detach()
    mean = phi.square().sum(1).mean() * 2 / problems.CLASSES
    expected = float(W.square().sum() * (mean + 0.2 * W.shape[1]))
    near = 4 * found.stderr + 1e-10 * expected
    assert abs(found.value - expected) < near


def test_soft_smoothed_and_ignored_targets():
    model, (x, y) = problems.mlp(), problems.vectors()
    plain = RelativeFlatness()(problems.objective(model, (x[2:], y[2:]))).value
    ignored = torch.cat([torch.full((2,), -100), y[2:]])
    some = RelativeFlatness()(problems.objective(model, (x, ignored))).value
    assert some == pytest.approx(plain, **EXACT)
    soft = F.one_hot(y[2:], problems.CLASSES).double() * 0.8 + 0.2 / problems.CLASSES
    same = RelativeFlatness()(problems.objective(model, (x[2:], soft))).value
    assert same == pytest.approx(plain, **EXACT)
    loss = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.3)
    smooth = Objective(model, (x[2:], y[2:]), loss=loss)
    assert RelativeFlatness()(smooth).value == pytest.approx(plain, **EXACT)


def test_a_sequence_has_a_term_for_each_token():
    model = problems.drawn(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    x = problems.vectors(n=4, shape=(2, 4))[0]
    y = torch.tensor([[0, 1], [2, -100], [1, 1], [0, 2]])
    found = RelativeFlatness()(Objective(model, (x, y), batch_size=3))
    kept = y.flatten() != -100
    flat = x.flatten(0, 1)[kept], y.flatten()[kept]
    expected = RelativeFlatness()(Objective(model, flat))
    assert found.value == pytest.approx(expected.value, **EXACT)


def test_layers_may_take_factors_but_units_may_not():
    model, data = problems.mlp(nn.ReLU), problems.vectors()
    before = RelativeFlatness()(problems.objective(model, data)).value
    for factors, same in ((torch.full((5,), 3.0), True), (torch.arange(1, 6), False)):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            moved[2].weight.mul_(factors.double()[:, None])
            moved[2].bias.mul_(factors.double())
            moved[4].weight.div_(factors.double())
        after = RelativeFlatness()(problems.objective(moved, data)).value
        assert (after == pytest.approx(before, rel=1e-9)) == same


def test_outputs_that_are_not_those_of_the_last_layer_are_refused():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(problems.INPUTS, problems.CLASSES)

        def forward(self, x):
            return torch.relu_(self.head(x))

    for model in (nn.Sequential(problems.mlp(), nn.Tanh()), Written().double()):
        objective = problems.objective(model, problems.vectors())
        with pytest.raises(UsageError, match="outputs of the last linear layer itself"):
            measure(objective, ["relative_flatness"])
    objective = problems.objective(problems.mlp(), problems.vectors())
    with pytest.raises(SettingError, match=r"among 0\.weight.* got '9'"):
        measure(objective, ["relative_flatness:layer=9"])
    with pytest.raises(SettingError, match="two dimensions"):
        RelativeFlatness(layer="4.bias")(objective)
    with pytest.raises(SettingError, match="variant must be 'correct'"):
        RelativeFlatness(variant="other")


def test_a_weight_that_two_layers_share_is_measured_by_products_alone():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(problems.INPUTS, problems.INPUTS)
            self.head = nn.Linear(problems.INPUTS, problems.INPUTS)
            self.head.weight = self.one.weight

        def forward(self, x):
            return self.head(torch.tanh(self.one(x)))

    model, data = problems.drawn(Shared()), problems.vectors()
    objective = problems.objective(model, data)
    with pytest.raises(UsageError, match="a weight of its own"):
        RelativeFlatness()(objective)
    found = RelativeFlatness(layer="one", samples=200)(objective)
    value = by_definition(model, data, "one.weight")[0]
    assert abs(found.value - value) < 4 * found.stderr


@pytest.mark.slow
def test_its_intervals_cover():
    model, data = problems.mlp(), problems.vectors()
    expected = by_definition(model, data, "2.weight")[0]
    objective = problems.objective(model, data, batch_size=7)
    hits = 0
    for seed in range(1000):
        measured = RelativeFlatness(layer="2", samples=30)
        low, high = measured(objective, generator=problems.generator(seed)).interval()
        hits += low <= expected <= high
    assert 0.93 <= hits / 1000 <= 0.97
