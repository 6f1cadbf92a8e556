"""Running statistics at points of a subspace: modes, their defaults and their words."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.averaging import reestimate
from steppe.errors import DataError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective

ALONG = [0.0, 0.4, 0.6, 1.0]


def clusters(n=240):
    """Three clusters far from the origin, in random order."""
    source = problems.generator(4)
    y = torch.randint(3, (n,), generator=source)
    centres = 3 * torch.randn((3, 8), generator=source, dtype=torch.float64)
    return 4 + centres[y] + torch.randn((n, 8), generator=source).double(), y


def normed_network(seed=0, inputs=8):
    layers = (
        *(nn.Linear(inputs, 12), nn.BatchNorm1d(12), nn.ReLU()),
        *(nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU()),
        nn.Linear(12, 3),
    )
    return problems.drawn(nn.Sequential(*layers), seed)


def trained(seed, data):
    model, (x, y) = normed_network(seed), data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for step in range(60):
        rows = slice(40 * (step % 6), 40 * (step % 6) + 40)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    model.zero_grad()
    return model.eval()


def test_frozen_statistics_are_far_off_and_re_estimated_ones_those_of_a_batch():
    data = clusters()
    a, b = trained(0, data), trained(1, data)
    line = Line.between(a, b)
    found = {
        mode: landscape(Objective(a, data), line, x=ALONG, batch_norm=mode)
        for mode in ("freeze", "interpolate", "reestimate")
    }
    whole = Objective(a, data, mode="train", batch_size=240)
    of_batch = landscape(whole, line, x=ALONG).loss
    end = Objective(b, data).value().value
    assert found["freeze"].loss[3] > 5 * end
    for mode in ("interpolate", "reestimate"):
        assert float(found[mode].loss[3]) == pytest.approx(end, rel=0.3, abs=0.02)
    # Variances of a batch lack the factor n / (n - 1) of running ones.
    torch.testing.assert_close(found["reestimate"].loss, of_batch, rtol=1e-2, atol=1e-4)
    assert found["reestimate"].loss[1] < found["interpolate"].loss[1]
    for mode, surface in found.items():
        assert surface.details["batch_norm"] == mode


def test_re_estimated_statistics_are_those_of_the_samples_at_the_weights():
    data = problems.vectors(shape=(8,))
    a, b = normed_network(), normed_network(1)
    before = problems.state_of(a)
    # A last batch of one row, of which batch norm in training has no variance.
    objective = problems.objective(a, data)
    found = landscape(objective, Line.between(a, b), x=[0.0, 0.3])
    for loss, weight in zip(found.loss.tolist(), (0.0, 0.3), strict=True):
        middle = copy.deepcopy(a)
        with torch.no_grad():
            for p, end in zip(middle.parameters(), b.parameters(), strict=True):
                p.lerp_(end, weight)
        reestimate(middle, [data[0][:3], data[0][3:]])
        expected = problems.objective(middle, data).value().value
        assert loss == pytest.approx(expected, rel=1e-9)
    problems.assert_same(problems.state_of(a), before)
    counting, checking = 2, 2 / 3  # the base point is one more, and has a pass more
    assert objective.cost.forwards == pytest.approx(2 * 2 + counting + checking)


def test_a_single_sample_has_no_statistics():
    (x, y), a = problems.vectors(shape=(8,)), normed_network()
    line = Line.between(a, normed_network(1))
    objective = Objective(a, (x[:1], y[:1]))
    with pytest.raises(DataError, match="one sample; give more samples, or batch_norm"):
        landscape(objective, line, x=[0.5])
    assert landscape(objective, line, x=[0.5], batch_norm="interpolate").samples == 1


def test_each_subspace_has_the_statistics_that_suit_it():
    data = problems.vectors(shape=(8,))
    a, b, c = (normed_network(seed) for seed in range(3))
    modes = [
        landscape(Objective(a, data), subspace, axes=[[0.2]] * len(subspace.axes))
        for subspace in (
            *(Line.random(a), Plane.random(a)),
            *(Line.between(a, b), Plane.through(a, b, c)),
        )
    ]
    words = [surface.details["batch_norm"] for surface in modes]
    assert words == ["freeze", "freeze", "reestimate", "reestimate"]


class Scaled(nn.Linear):
    """A linear layer with a buffer that is no statistic."""

    def __init__(self, scale):
        super().__init__(4, 3)
        self.register_buffer("scale", torch.tensor(scale))
        problems.drawn(self)

    def forward(self, x):
        return self.scale * super().forward(x)


def test_only_what_moves_has_a_mode():
    data = problems.vectors()
    plain = problems.mlp()
    found = landscape(Objective(plain, data), Line.random(plain), x=[0.0])
    assert "batch_norm" not in found.details
    a, same, other = Scaled(1.0), Scaled(1.0), Scaled(3.0)
    objective = Objective(a, data)
    found = landscape(objective, Line.between(a, same), x=[0.5])
    assert "batch_norm" not in found.details
    found = landscape(objective, Line.between(a, other), x=[0.5])
    assert found.details["batch_norm"] == "interpolate"
    assert float(found.loss[0]) == pytest.approx(
        Objective(Scaled(2.0), data).value().value, rel=1e-12
    )


def test_batches_with_statistics_of_their_own_take_no_others():
    data = problems.vectors(shape=(8,))
    a, b = normed_network(), normed_network(1)
    objective = problems.objective(a, data, 7, mode="train")
    modes = "freeze", "reestimate"
    surfaces = [
        landscape(objective, Line.between(a, b), x=[0.5], batch_norm=mode)
        for mode in modes
    ]
    assert torch.equal(surfaces[0].loss, surfaces[1].loss)
    for surface in surfaces:
        assert surface.details["batch_norm"] == "statistics of each batch"
