"""Weight matching against all permutations, and on networks of several kinds."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import SettingError, UsageError
from steppe.symmetries.unit_groups import permuted, reordered, unit_groups
from steppe.symmetries.weight_matching import weight_matching


class Residual(nn.Module):
    """A residual stream with a projection, batch norm and a depthwise layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.way = nn.Conv2d(6, 8, 1, stride=2)
        self.three = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, problems.CLASSES)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        h = self.two(F.silu(self.deep(torch.relu(self.norm(self.one(x))))))
        x = F.relu(h + self.way(x), inplace=True)
        x = x + torch.tanh(self.three(x))
        return self.head(x.mean((2, 3)))


class Gated(nn.Module):
    """Units that are scaled by a gate, and normalized over the units."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(problems.INPUTS, 6)
        self.gate = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, problems.CLASSES)

    def forward(self, x):
        h = torch.relu(self.one(x))
        h = self.norm(h * torch.sigmoid(self.gate(h)))
        return self.head(h).log_softmax(1)


def plain_cnn():
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3, padding=1, bias=False),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(16, 7),
        nn.BatchNorm1d(7),
        nn.Sigmoid(),
        nn.Linear(7, problems.CLASSES),
    )


class Attending(nn.Module):
    """Encoder layers of torch, on vectors that are cut into pieces."""

    def __init__(self, norm_first=False):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.places = nn.Parameter(torch.zeros(3, 8))
        layer = nn.TransformerEncoderLayer(
            *(8, 4, 6), batch_first=True, norm_first=norm_first
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, problems.CLASSES)

    def forward(self, x):
        x = self.embed(x.view(-1, 3, 4)) + self.places
        return self.head(self.layers(x).mean(1))


SAME = {"rtol": 1e-12, "atol": 1e-12}
NETS = {
    "mlp": (problems.mlp, (4,), 2),
    "residual": (Residual, (2, 8, 8), 3),
    "cnn": (plain_cnn, (2, 4, 4), 3),
    "gated": (Gated, (4,), 1),
    "transformer": (Attending, (12,), 4),
    "transformer, norms first": (lambda: Attending(norm_first=True), (12,), 4),
}


def net(name, seed=0):
    make, shape, groups = NETS[name]
    model = problems.drawn(make(), seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            problems.normed(layer, seed)
    return model, problems.objective(model, problems.vectors(shape=shape)), groups


def groups_of(objective):
    with objective.measuring():
        return unit_groups(objective)


def with_state(model, state):
    model = copy.deepcopy(model)
    model.load_state_dict(state)
    return model.eval()


def outputs(model, objective):
    with torch.no_grad():
        return torch.cat([model.eval()(x) for x, _ in objective.batches])


@pytest.mark.parametrize("name", NETS)
def test_a_copy_with_other_orders_comes_back(name):
    model, objective, count = net(name)
    groups = groups_of(objective)
    assert len(groups) == count
    source = problems.generator(3)
    orders = [torch.randperm(g.size, generator=source) for g in groups]
    other = with_state(model, permuted(model.state_dict(), groups, orders))
    expected = outputs(model, objective)
    torch.testing.assert_close(outputs(other, objective), expected, **SAME)
    assert not torch.equal(problems.flat(other), problems.flat(model))
    found = weight_matching(objective, other)
    problems.assert_same(
        problems.state_of(with_state(model, found)), problems.state_of(model.eval())
    )


@pytest.mark.parametrize("name", NETS)
def test_another_network_comes_nearer_and_computes_the_same(name):
    model, objective, _ = net(name)
    other = net(name, seed=7)[0]
    before = problems.state_of(model)
    moved = with_state(other, weight_matching(objective, other))
    problems.assert_same(problems.state_of(model), before)
    torch.testing.assert_close(
        outputs(moved, objective), outputs(other, objective), **SAME
    )
    dots = [problems.flat(model) @ problems.flat(each) for each in (other, moved)]
    assert dots[0] < dots[1]


@pytest.mark.parametrize("seed", range(4))
def test_of_all_permutations_of_one_layer_none_is_nearer(seed):
    def make(seed):
        layers = nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, problems.CLASSES)
        return problems.drawn(nn.Sequential(*layers), seed)

    model, other = make(seed), make(seed + 20)
    objective = problems.objective(model, problems.vectors())
    moved = with_state(other, weight_matching(objective, other))
    a, b = model.state_dict(), other.state_dict()
    most = max(
        (a["0.weight"] * b["0.weight"][[*p]]).sum()
        + (a["0.bias"] * b["0.bias"][[*p]]).sum()
        + (a["2.weight"] * b["2.weight"][:, [*p]]).sum()
        for p in itertools.permutations(range(6))
    )
    found = problems.flat(model) @ problems.flat(moved) - a["2.bias"] @ b["2.bias"]
    assert float(found) == pytest.approx(float(most), rel=1e-12)


@pytest.mark.slow
def test_no_order_of_one_layer_alone_comes_nearer_in_a_deep_network():
    model, objective, _ = net("mlp")
    other = net("mlp", seed=9)[0]
    state = weight_matching(objective, other)
    reached = problems.flat(model) @ problems.flat(with_state(other, state))
    for group in groups_of(objective):
        for p in itertools.permutations(range(group.size)):
            turned = permuted(state, [group], [torch.tensor(p)])
            near = problems.flat(model) @ problems.flat(with_state(other, turned))
            assert near <= reached + 1e-12


def test_units_that_a_layer_reads_in_part_are_refused():
    halves = nn.Linear(4, 8), nn.GLU(1), nn.Linear(4, problems.CLASSES)
    model = problems.drawn(nn.Sequential(*halves), 0)
    with pytest.raises(UsageError, match=r"those of .* change the outputs"):
        weight_matching(
            problems.objective(model, problems.vectors()),
            problems.drawn(copy.deepcopy(model), 3),
        )


def test_networks_without_hidden_units_or_of_another_shape_are_refused():
    objective = problems.objective(problems.linear(), problems.vectors())
    with pytest.raises(UsageError, match="has none that the graph of its outputs"):
        weight_matching(objective, problems.linear(seed=1))
    objective = net("mlp")[1]
    with pytest.raises(SettingError, match=r"other must have the tensors"):
        weight_matching(objective, problems.linear())
    with pytest.raises(SettingError, match="must be a whole number"):
        weight_matching(objective, problems.mlp(), seed=0.5)


def test_frozen_layers_move_along():
    model, objective, _ = net("mlp")
    other = net("mlp", seed=9)[0]
    expected = weight_matching(objective, other)
    model[2].weight.requires_grad_(False)
    found = weight_matching(problems.objective(model, problems.vectors()), other)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert not model[2].weight.requires_grad


def test_tied_weights_have_one_order():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter = nn.Linear(problems.INPUTS, 6)
            self.one = nn.Linear(6, 6)
            self.two = nn.Linear(6, 6)
            self.two.weight = self.one.weight
            self.head = nn.Linear(6, problems.CLASSES)

        def forward(self, x):
            h = torch.relu(self.enter(x))
            return self.head(torch.relu(self.two(torch.relu(self.one(h)))))

    model = problems.drawn(Tied())
    objective = problems.objective(model, problems.vectors())
    (group,) = groups_of(objective)
    other = problems.drawn(Tied(), seed=4)
    moved = with_state(other, weight_matching(objective, other))
    torch.testing.assert_close(
        outputs(moved, objective), outputs(other, objective), rtol=1e-12, atol=1e-12
    )
    assert group.size == 6
    assert moved.two.weight is moved.one.weight


def test_heads_are_units_of_queries_keys_and_values():
    _, objective, _ = net("transformer")
    heads = [group for group in groups_of(objective) if group.block]
    assert [(group.size, group.block) for group in heads] == [(4, 2), (4, 2)]
    assert {name.partition("self_attn.")[2] for name, _ in heads[0].places} == {
        *("in_proj_weight", "in_proj_bias", "out_proj.weight")
    }
    rows = torch.arange(24.0)  # queries, keys and values of four heads of two entries
    moved = reordered(rows, 0, torch.tensor([3, 1, 2, 0]), block=2)
    assert moved.view(3, 4, 2)[1].tolist() == [[14, 15], [10, 11], [12, 13], [8, 9]]
