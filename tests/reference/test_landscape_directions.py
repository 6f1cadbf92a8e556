"""Random directions: the published formulas bit for bit, whatever the network is."""

import copy
import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import problems
from steppe.errors import SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane

NORMS = ("filter", "layer", "weight", "dfilter", "dlayer", "none")


class Network(nn.Module):
    """Every shape of tensors: an embedding, kernels, matrices, vectors, a scalar."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.conv = nn.Conv2d(2, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(33, 6)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("table", torch.ones(3, 4))
        self.to(dtype)
        source = problems.generator(1)
        with torch.no_grad():
            for tensor in self.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape, generator=source) + 0.1)


def published(named, norm, ignore, source):
    """The formulas as the paper's program has them, filter by filter."""
    directions = {}
    for name in sorted(named):
        w = named[name].detach()
        d = torch.randn(w.size(), generator=source).type(w.type())
        if d.dim() <= 1:
            directions[name] = torch.zeros_like(w) if ignore == "biasbn" else w.clone()
            continue
        if norm == "filter":
            for dj, wj in zip(d, w, strict=True):
                dj.mul_(wj.norm() / (dj.norm() + 1e-10))
        elif norm == "layer":
            d.mul_(w.norm() / d.norm())
        elif norm == "weight":
            d.mul_(w)
        elif norm == "dfilter":
            for dj in d:
                dj.div_(dj.norm() + 1e-10)
        elif norm == "dlayer":
            d.div_(d.norm())
        directions[name] = d
    return directions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("norm", "ignore", "of"),
    [*product(NORMS, ("biasbn", "none"), ("parameters", "states"))],
)
def test_directions_are_the_published_ones_bit_for_bit(norm, ignore, of, dtype):
    model, source = Network(dtype), torch.Generator().manual_seed(5)
    line = Line.random(model, norm, ignore, 5, of=of)
    expected = published(dict(model.named_parameters()), norm, ignore, source)
    for name, direction in zip(line.names, line.direction, strict=True):
        assert torch.equal(direction, expected[name]), name
    moving = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
    states = published(moving, norm, ignore, source) if of == "states" else {}
    states = {name: d for name, d in states.items() if d.any()}
    own = line.buffer_directions[0] if line.buffer_directions else {}
    assert own.keys() == states.keys()
    assert all(torch.equal(own[name], states[name]) for name in own)


def by_name(line):
    return dict(zip(line.names, line.direction, strict=True))


class Reversed(Network):
    """The same network with its layers registered from last to first."""

    def __init__(self):
        super().__init__()
        for name, child in reversed(list(self.named_children())):
            del self._modules[name]
            self._modules[name] = child


def test_a_seed_means_the_same_whatever_was_drawn_and_however_it_was_built():
    expected = by_name(Line.random(Network(), ignore="none", seed=2))
    torch.randn(5)
    found = by_name(Line.random(Reversed(), ignore="none", seed=2))
    assert list(found) != list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    wide = by_name(Line.random(Network(torch.float64), ignore="none", seed=2))
    for name, direction in expected.items():
        torch.testing.assert_close(wide[name].float(), direction, rtol=1e-5, atol=0)


def test_the_default_dtype_and_device_have_no_say():
    model = Network()
    expected = Line.random(model)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = Line.random(model)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found.direction, expected.direction))


@pytest.mark.parametrize("norm", NORMS)
def test_filters_of_zeros_have_finite_directions(norm):
    model = Network()
    with torch.no_grad():
        model.embedding.weight[2] = 0
        model.conv.weight[1] = 0
        model.head.weight.zero_()
    directions = by_name(Line.random(model, norm))
    assert all(bool(d.isfinite().all()) for d in directions.values())
    if norm in ("filter", "weight"):
        assert not directions["embedding.weight"][2].any()
        assert not directions["conv.weight"][1].any()
    if norm in ("filter", "layer", "weight"):
        assert not directions["head.weight"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("norm", NORMS)
def test_in_half_precision_directions_are_rounded_once(norm, dtype):
    model = Network(dtype)
    found = by_name(Line.random(model, norm, "none"))
    wide = {n: p.detach().float() for n, p in model.named_parameters()}
    expected = published(wide, norm, "none", torch.Generator().manual_seed(0))
    for name, direction in expected.items():
        assert torch.equal(found[name], direction.to(dtype)), name


def test_with_weight_norm_lengths_and_directions_of_filters_move():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)))
    model = problems.drawn(model)
    directions = by_name(Line.random(model))
    lengths, filters = (f"0.parametrizations.weight.original{i}" for i in (0, 1))
    own = dict(model.named_parameters())
    assert directions[lengths].shape == (3, 1)
    for name in (lengths, filters):
        torch.testing.assert_close(directions[name].norm(dim=1), own[name].norm(dim=1))
    objective = problems.objective(model, problems.vectors())
    before = problems.state_of(model)
    surface = landscape(objective, Line.random(model), x=[0.0, 1.0])
    problems.assert_same(problems.state_of(model), before)
    assert surface.loss[0] != surface.loss[1]
    assert float(surface.loss[0]) == pytest.approx(objective.value().value, rel=1e-14)


def test_patterns_of_names_stay_where_they_are():
    model = Network()
    plain = by_name(Line.random(model))
    found = by_name(Line.random(model, ignore="embedding.*"))
    assert not found["embedding.weight"].any()
    assert torch.equal(found["head.weight"], plain["head.weight"])
    assert not found["head.bias"].any()
    several = Line.random(model, ignore=["none", "*.bias", "conv.weight"])
    found = by_name(several)
    assert several.details["ignore"] == ("none", "*.bias", "conv.weight")
    assert {n for n, d in found.items() if not d.any()} == {
        *("conv.weight", "conv.bias", "head.bias", "bn.bias"),
    }
    assert torch.equal(found["bn.weight"], model.bn.weight.detach())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ignore": "bisbn"}, "patterns .* got 'bisbn', which matches none of scale"),
        ({"ignore": ["biasbn", "none"]}, "not hold both 'biasbn' and 'none'"),
        ({"ignore": 3}, "ignore must be 'biasbn', 'none' or patterns .* got 3"),
        ({"norm": "row"}, "norm must be 'filter', 'layer', 'weight', .* got 'row'"),
        ({"of": "buffers"}, "of must be 'parameters' or 'states'"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"unit": "metre"}, "unit must be 'direction' or 'absolute'"),
        ({"ignore": "*"}, "number 1 is zero; ignore fewer tensors"),
    ],
)
def test_mistakes_are_one_sentence(settings, said):
    with pytest.raises(SettingError, match=said):
        Line.random(Network(), **settings)


class Masked(nn.Module):
    """A mask with infinities, a count, and a cache that no state_dict has."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("mask", torch.tensor([[0.0, -torch.inf]]))
        self.register_buffer("cache", torch.ones(2, 2), persistent=False)
        problems.drawn(self)
        problems.normed(self.norm)

    def forward(self, x):
        return self.norm(self.layer(x))


def test_masks_counts_and_caches_stay_where_they_are():
    line = Line.random(Masked(), ignore="none", of="states")
    assert set(line.buffer_directions[0]) == {"norm.running_mean", "norm.running_var"}
    assert line.details["of"] == "states"


def test_states_move_statistics_along_themselves_and_no_variance_below_zero():
    model = Masked()
    line = Line.random(model, ignore="none", of="states")
    for c in (-2.0, 0.0, 0.5):
        changed = line.changed_buffers(c)
        assert set(changed) == (set() if c == 0 else set(line.buffer_directions[0]))
        if c:
            mean, variance = model.norm.running_mean, model.norm.running_var
            expected = {
                "norm.running_mean": mean + c * mean,
                "norm.running_var": (variance + c * variance).clamp(min=0),
            }
            for name, value in expected.items():
                torch.testing.assert_close(changed[name], value, rtol=1e-14, atol=0)
    objective = problems.objective(model, problems.vectors())
    surface = landscape(objective, line, x=[-2.0, 0.0, 1.0])
    assert bool(surface.loss.isfinite().all())
    assert surface.details["batch_norm"] == "interpolate"
    frozen = landscape(objective, line, x=[-2.0, 0.0, 1.0], batch_norm="freeze")
    assert torch.equal(frozen.loss[1], surface.loss[1])
    assert frozen.loss[2] != surface.loss[2]


def test_states_leave_the_direction_of_the_parameters_as_it_is():
    model = Masked()
    one, other = Line.random(model), Line.random(model, of="states")
    assert all(map(torch.equal, one.direction, other.direction))
    surface = landscape(problems.objective(model, problems.vectors()), other, x=[1.0])
    assert surface.details["batch_norm"] == "freeze"


def test_the_length_of_a_direction_is_that_between_points():
    model = Network(torch.float64)
    for norm in NORMS:
        plane = Plane.random(model, norm, ignore="none")
        facts = plane.geometry()
        for axis, letter in enumerate("xy"):
            at = [0.0, 0.0]
            at[axis] = -0.75
            apart = [a - b for a, b in zip(plane.point(*at), plane.base, strict=True)]
            distance = math.sqrt(sum(float(t.square().sum()) for t in apart))
            assert distance == pytest.approx(0.75 * facts["length"][letter], rel=1e-12)


def rescaled(model, factors):
    """The network with filters of its convolution scaled, before a batch norm."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight.mul_(factors[:, None, None, None])
        model[0].bias.mul_(factors)
    return model


@pytest.mark.parametrize(("norm", "follows"), [("filter", True), ("layer", False)])
def test_filters_before_a_batch_norm_have_no_scale_with_filter_norm(norm, follows):
    model = problems.cnn()
    model[1].eps = 1e-30  # 0 is refused in training
    other = rescaled(model, torch.tensor([4.0, 0.5, 2.0], dtype=torch.float64))
    curves = []
    for each in (model, other):
        data = problems.vectors(shape=(1, 4, 4))
        objective = problems.objective(each, data, 7, mode="train")
        line = Line.random(each, norm)
        curves.append(landscape(objective, line, [-1.0, 0.0, 0.5, 1.0]).loss)
    assert torch.allclose(curves[0][1], curves[1][1], rtol=1e-9)
    assert torch.allclose(*curves, rtol=1e-7) == follows


def test_draws_have_both_signs_and_the_variance_of_the_normal_distribution():
    # Uniform numbers between 0 and 1 would all be positive.
    model = nn.Linear(200, 100)
    (draw, _) = Line.random(model, "none").direction
    assert abs(float(draw.mean())) < 5 / 20000**0.5
    assert float(draw.std()) == pytest.approx(1, abs=0.03)
    assert 0.48 < float((draw > 0).double().mean()) < 0.52
