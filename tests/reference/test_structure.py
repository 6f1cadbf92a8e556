"""What the graph says of networks whose structure is known by construction."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.graphs.network_graph import FIXED, structure

SOURCE = problems.generator()
ONE, TWO = (nn.Parameter(torch.randn(4, 4, generator=SOURCE)) for _ in "ab")
BIAS = nn.Parameter(torch.randn(4, generator=SOURCE))
X = torch.randn(3, 4, generator=SOURCE)


def read(z):
    return structure(z, {ONE: "one", TWO: "two", BIAS: "bias"})


def hidden():
    return X @ ONE


def streams(z):
    """Where each parameter leads, by its name."""
    return {link.name: (link.source, link.target) for link in read(z).links}


HOMOGENEOUS = {
    "relu": torch.relu,
    "leaky relu": F.leaky_relu,
    "clamp at zero": lambda h: h.clamp(min=0),
    "maximum with zero": lambda h: torch.maximum(h, torch.zeros(())),
    "absolute value": torch.abs,
    "scaled": lambda h: 3 * h / 2,
    "masked": lambda h: h * torch.tensor([1.0, 0.0, 2.0, 1.0]),
    "dropout": lambda h: F.dropout(h, 0.5),
    "views": lambda h: h.T.reshape(2, 6).flip(0).view(4, 3).T,
    "padded": lambda h: F.pad(h, (1, 1))[:, 1:-1],
    "max pool": lambda h: F.max_pool1d(h.unsqueeze(0), 2).squeeze(0).repeat(1, 2),
    "mean pool": lambda h: F.avg_pool1d(h.unsqueeze(0), 3, 1, 1).squeeze(0),
    "largest": lambda h: h.topk(4).values,
    "sum with itself": lambda h: h + 0.5 * torch.relu(-h),
    "joined": lambda h: torch.cat([h[:, :2], torch.relu(h[:, 2:])], 1),
    "constant matrix": lambda h: h @ torch.ones(4, 4),
}


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_homogeneous_operations_keep_the_stream(name):
    z = HOMOGENEOUS[name](hidden()) @ TWO
    found = read(z)
    assert (found.not_piecewise_linear, found.not_homogeneous) == ((), ())
    inner = found.streams - 1
    assert inner == 1
    assert streams(z) == {"one": (FIXED, inner), "two": (inner, FIXED)}


FIXING = {
    "a constant": lambda h: h + 1,
    "a constant before": lambda h: 1 - h,
    "the inputs": lambda h: h + X,
    "constants beside": lambda h: torch.stack([h, X]).sum(0),
    "a maximum with one": lambda h: torch.maximum(h, torch.ones(())),
}


@pytest.mark.parametrize("name", FIXING)
def test_constants_fix_the_scale_of_what_they_are_added_to(name):
    z = FIXING[name](hidden()) @ TWO
    found = read(z)
    assert found.not_piecewise_linear == ()
    assert streams(z) == {"one": (FIXED, FIXED), "two": (FIXED, FIXED)}


def changed(h):
    h = h.clone()
    h[0] = 0.0
    return h


CURVED = {
    "Tanh": torch.tanh,
    "Gelu": F.gelu,
    "Softmax": lambda h: h.softmax(1),
    "Mul": lambda h: h * torch.relu(h),
    "Div": lambda h: X / h,
    "Mm of two activations": lambda h: (h @ h.T) @ h,
    "NativeLayerNorm": lambda h: F.layer_norm(h, (4,)),
    "CopySlices": changed,
}


@pytest.mark.parametrize("name", CURVED)
def test_what_is_not_known_to_be_piecewise_linear_is_named(name):
    found = read(CURVED[name](hidden()) @ TWO)
    assert name in found.not_piecewise_linear
    assert found.why_not_piecewise_linear()


UNEVEN = {
    "Hardtanh": F.relu6,
    "Clamp": lambda h: h.clamp(-1, 1),
    "Threshold": lambda h: F.threshold(h, 0.5, 0.0),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_piecewise_linear_operations_with_bounds_are_named_apart(name):
    found = read(UNEVEN[name](hidden()) @ TWO)
    assert found.not_homogeneous == (name,)
    assert found.why_not_piecewise_linear() == ""


@pytest.mark.parametrize("add", [torch.add, lambda h, b: b.unsqueeze(0) + h])
def test_a_bias_joins_the_stream_it_is_added_to(add):
    z = torch.relu(add(hidden(), BIAS)) @ TWO
    links = {link.name: link for link in read(z).links}
    assert links["bias"].bias
    assert not links["one"].bias
    assert links["bias"].target == links["one"].target == links["two"].source != FIXED


def test_branches_that_are_added_share_a_stream():
    h = torch.relu(hidden())
    z = (h + torch.relu(h @ TWO)).sum(1)
    assert streams(z) == {"one": (FIXED, FIXED), "two": (FIXED, FIXED)}
    z = (h + torch.relu(h @ TWO)) * BIAS
    found = streams(z)
    assert found["two"] == (found["one"][1],) * 2 == (found["bias"][0],) * 2


def test_a_parameter_used_twice_is_not_piecewise_linear():
    found = read(torch.relu(hidden()) @ ONE)
    assert found.repeated == ["one"]
    assert "one is used more than once" in found.why_not_piecewise_linear()


def test_computed_weights_have_no_rule():
    z = F.conv1d(X.unsqueeze(1), (ONE * 2).unsqueeze(1)).squeeze(2)
    assert {use.kind for use in read(z).uses} <= {"multiply", "other"}
    assert "convolution with computed weights" in read(z).not_piecewise_linear


def test_outputs_without_a_graph_have_no_structure():
    assert read(X).uses == ()


def frozen(layer, *names):
    for name in names:
        getattr(layer, name).requires_grad_(False)
    return layer


def layers(*between):
    """A stem and a head of two parameters each, with layers between them."""
    chain = nn.Sequential(nn.Conv1d(1, 4, 1), *between, nn.Flatten(), nn.Linear(16, 3))
    chain = problems.drawn(chain).eval()
    z = chain(X.double().unsqueeze(1))
    return structure(z, {p: n for n, p in chain.named_parameters() if p.requires_grad})


def inner(found):
    """Streams that the stem and all between it and the head lead to."""
    targets = {link.name: link.target for link in found.links}
    return targets["0.weight"], targets.get("1.weight", targets["0.weight"])


def test_frozen_weights_keep_a_stream_and_frozen_biases_fix_it():
    conv = nn.Conv1d(4, 4, 1)
    assert inner(layers(frozen(nn.Conv1d(4, 4, 1, bias=False), "weight")))[0] != FIXED
    assert inner(layers(frozen(conv, "weight", "bias")))[0] == FIXED
    stem, after = inner(layers(frozen(nn.Conv1d(4, 4, 1), "bias")))
    assert (stem != FIXED, after) == (True, FIXED)
    norm = frozen(nn.BatchNorm1d(4), "weight", "bias")
    assert inner(layers(norm))[0] == FIXED


def test_a_batch_norm_has_streams_of_its_own_or_is_named():
    found = layers(nn.BatchNorm1d(4))
    assert found.not_homogeneous == ()
    assert len({FIXED, *inner(found)}) == 3
    half = layers(frozen(nn.BatchNorm1d(4), "bias"))
    assert half.not_homogeneous == ("batch norm with one of weight and bias frozen",)


def test_products_with_weights_that_have_no_rule_are_still_read():
    z = TWO @ torch.relu(ONE @ X.T)
    assert {use.kind for use in read(z).uses} == {"other"}
    links = streams(z)
    assert links["one"] == (FIXED, links["two"][0])
    stacked = nn.Parameter(torch.ones(1, 4, 2))
    found = structure(torch.bmm(X.unsqueeze(0), stacked), {stacked: "stacked"})
    assert found.uses[0].kind == "other"
    assert "a product of two parameters" in read(X @ (ONE @ TWO)).not_piecewise_linear


def test_branches_are_read_in_one_order():
    held, orders = [], set()
    for turn in range(20):
        held.append((hidden().relu(), bytes(100 * turn)))
        z = torch.relu(hidden()) + torch.relu(X @ TWO) + torch.relu(X + BIAS)
        orders.add(tuple(use.name for use in read(z).uses))
    assert len(orders) == 1
