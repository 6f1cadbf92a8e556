"""Barriers between networks against closed forms and a plain loop over the line."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import SettingError, UsageError
from steppe.losses import L2
from steppe.measures import Barrier, measure
from steppe.objective import Objective


class Point(nn.Module):
    """A single parameter."""

    def __init__(self, x):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=torch.float64))


def well(model, batch):
    """The double well (x^2 - 1)^2, times a weight of each sample."""
    return batch * (model.x.square() - 1).square()


def between_wells(weights, **settings):
    objective = Objective(Point(-1.0), [*weights.split(4)], loss=well)
    return Barrier(**settings)(objective, other=Point(1.0))


@pytest.mark.parametrize("points", [3, 11, 25])
def test_the_barrier_of_a_double_well_is_one(points):
    found = between_wells(torch.ones(7).double(), points=points)
    assert found.value == pytest.approx(1, rel=1e-15)
    assert found.stderr == 0
    assert found.details["at"] == 0.5
    curve = [((2 * t - 1) ** 2 - 1) ** 2 for t in found.details["coordinates"]]
    assert found.details["losses"] == pytest.approx(curve, abs=1e-15)


def test_a_convex_loss_and_a_network_with_itself_have_none():
    model, data = problems.linear(), problems.vectors()
    objective = problems.objective(model, data)
    assert Barrier()(objective, other=problems.linear(seed=1)).value == 0
    for mode in ("eval", "train"):
        net, data = problems.networks()["batch_norm"]
        objective = problems.objective(net, data, mode=mode)
        for policy in ("reestimate", "interpolate", "freeze"):
            found = Barrier(batch_norm=policy)(objective, other=copy.deepcopy(net))
            assert found.value == found.stderr == 0


def two(name):
    """A network, nearly the same function far off, and labels that both are sure of."""
    model, (x, _) = problems.networks()[name]
    source = problems.generator(11)
    with torch.no_grad():
        model[4].weight.mul_(8.0)
        other = copy.deepcopy(model).eval()
        if name == "batch_norm":  # a sign between the convolution and the norm
            for t in (*other[0].parameters(), other[1].running_mean, other[1].weight):
                t.neg_()
        else:
            for p in other[0].parameters():
                p.copy_(p.flip(0))
            other[2].weight.copy_(other[2].weight.flip(1))
        for p in other.parameters():
            noise = torch.randn(p.shape, generator=source, dtype=torch.float64)
            p.add_(0.02 * noise)
        targets = model.eval()(x).argmax(1)
    return model, other, (x, targets)


def plain_losses(model, other, data, t, policy):
    """Loss terms at a point, with batch norm computed by hand."""
    here = copy.deepcopy(model).eval()
    ends = model.state_dict(), other.state_dict()
    mixed = {
        k: a + t * (ends[1][k] - a)
        for k, a in ends[0].items()
        if a.dtype.is_floating_point
    }
    if policy == "freeze":
        mixed = {k: ends[0][k] if "running" in k else v for k, v in mixed.items()}
    here.load_state_dict(mixed, strict=False)
    if policy == "reestimate":
        for layer in here:
            if isinstance(layer, nn.BatchNorm2d):
                inputs = here[0](data[0]).detach()
                layer.running_mean = inputs.mean((0, 2, 3))
                layer.running_var = inputs.var((0, 2, 3))
    return F.cross_entropy(here(data[0]), data[1], reduction="none").detach()


@pytest.mark.parametrize("policy", ["reestimate", "interpolate", "freeze"])
@pytest.mark.parametrize("name", ["relu", "batch_norm"])
def test_it_is_a_plain_loop_over_the_line(name, policy):
    model, other, data = two(name)
    found = Barrier(points=11, batch_norm=policy)(
        problems.objective(model, data), other=other
    )
    ts = [i / 10 for i in range(11)]
    terms = torch.stack([plain_losses(model, other, data, t, policy) for t in ts])
    at = torch.tensor(ts).double().unsqueeze(1)
    rises = terms - (1 - at) * terms[0] - at * terms[-1]
    top = int(rises.mean(1).argmax())
    assert found.value > 0
    assert found.value == pytest.approx(float(rises.mean(1)[top]), rel=1e-12)
    assert found.details["at"] == ts[top]
    assert found.details["losses"] == pytest.approx(terms.mean(1).tolist(), rel=1e-12)
    error = float(rises[top].std()) / math.sqrt(len(data[0]))
    assert found.stderr == pytest.approx(error, rel=1e-10)


def test_the_penalty_at_a_point_is_part_of_the_loss_there():
    model, other, data = two("relu")
    plain, penalised = (
        Barrier()(problems.objective(model, data, penalty=p), other=other).details
        for p in (None, L2(0.1, "all"))
    )
    for i, t in enumerate(plain["coordinates"]):
        at = problems.flat(model).lerp(problems.flat(other), t)
        added = penalised["losses"][i] - plain["losses"][i]
        assert added == pytest.approx(float(0.1 * at.square().sum()), rel=1e-9)


def test_matching_removes_the_barrier_between_copies_with_other_orders():
    model, _, data = two("relu")
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in (other[0].weight, other[0].bias):
            p.copy_(p.flip(0))
        other[2].weight.copy_(other[2].weight.flip(1))
    objective = problems.objective(model, data)
    asked = ["barrier", "barrier:matched=true"]
    plain, matched = measure(objective, asked, other=other).values()
    assert plain.value > 0.01
    assert matched.value == pytest.approx(0, abs=1e-15)
    assert matched.cost.forwards == pytest.approx(plain.cost.forwards + 3 / 3)


def test_networks_of_another_kind_are_refused():
    objective = problems.objective(problems.mlp(), problems.vectors())
    with pytest.raises(UsageError, match="give other="):
        Barrier()(objective)
    with pytest.raises(SettingError, match=r"other must have the tensors .* 0\.weight"):
        Barrier()(objective, other=problems.cnn())
    with pytest.raises(SettingError, match="network or its state_dict"):
        Barrier()(objective, other=3)
    with pytest.raises(SettingError, match="batch_norm must be 'reestimate'"):
        Barrier(batch_norm="batch")


@pytest.mark.slow
def test_its_intervals_cover():
    """The height over drawn samples, whose weights have the mean 1: that is 1."""
    source, hits, repeats = problems.generator(2), 0, 1000
    objective = Objective(Point(-1.0), [torch.ones(40).double()], loss=well)
    for _ in range(repeats):
        weights = torch.rand(40, generator=source, dtype=torch.float64) * 2
        objective.batches = [weights]
        low, high = Barrier(points=3)(objective, other=Point(1.0)).interval()
        hits += low <= 1 <= high
    assert 0.93 <= hits / repeats <= 0.97
