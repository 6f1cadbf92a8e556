"""Curves between networks: Bernstein polynomials, a ring of minima, dense autograd."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.interpolate import BPoly
from torch import nn
from torch.nn import functional as F

import problems
from steppe import Curve, Objective, landscape
from steppe.errors import DataError, SettingError, UsageError
from steppe.losses import L2
from steppe.seeds import stream

TS = [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.8, 1.0]
KINDS = [Curve.bezier, Curve.polychain]


def bent(curve, seed=3, scale=0.3):
    """The curve with bends that are off the line."""
    source = problems.generator(seed)
    moved = [
        tuple(
            d + scale * torch.randn(d.shape, generator=source, dtype=d.dtype) for d in e
        )
        for e in curve.directions[:-1]
    ]
    return dataclasses.replace(curve, directions=(*moved, curve.directions[-1]))


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def control_points(curve):
    base = flat(curve.base)
    return torch.stack([base, *(base + flat(d) for d in curve.directions)]).numpy()


class Point(nn.Module):
    """A point of the plane."""

    def __init__(self, x, y):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))


def ring(model, batch):
    """Zero on the unit circle: every way straight through it is over a hill."""
    return batch * (model.w.square().sum() - 1).square()


def on_the_ring(**settings):
    a, b = Point(-1.0, 0.0), Point(1.0, 0.0)
    with torch.no_grad():
        a.w[1] += 1e-3  # off the axis of symmetry, where the gradient has no side
    return a, b, Objective(a, [torch.ones(4).double()] * 2, loss=ring, **settings)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("bends", [1, 2, 5])
def test_weights_are_the_published_ones_and_sum_to_one(make, bends):
    curve = make(problems.mlp(), problems.mlp(seed=1), bends)
    last = bends + 1
    for t in TS:
        weights = curve.weights(t)
        assert sum(weights) == pytest.approx(1, abs=1e-15)
        if curve.kind == "bezier":
            each = [BPoly(np.eye(last + 1)[:, [k]], [0, 1])(t) for k in range(last + 1)]
        else:
            each = [max(0, 1 - abs(t * last - k)) for k in range(last + 1)]
        assert weights == pytest.approx([float(w) for w in each], abs=1e-15)
    assert sum(curve.weights(-0.3)) == pytest.approx(1)


@pytest.mark.parametrize("make", KINDS)
def test_before_the_fit_it_is_the_line_and_its_ends_are_the_networks(make):
    a, b = problems.mlp(), problems.mlp(seed=1)
    curve = make(a, b, bends=3)
    start, end = problems.flat(a), problems.flat(b)
    for t in (*TS, -0.2, 1.3):
        torch.testing.assert_close(flat(curve.point(t)), start + t * (end - start))
    for model, t in ((a, 0.0), (b, 1.0)):
        for p, q in zip(model.parameters(), curve.point(t), strict=True):
            assert torch.equal(p, q)
    assert curve.length() == pytest.approx(float((end - start).norm()), rel=1e-12)


def test_points_are_those_of_a_bernstein_polynomial_and_of_a_chain():
    a, b = problems.mlp(), problems.mlp(seed=1)
    smooth, chain = (bent(make(a, b, 2)) for make in KINDS)
    polynomial = BPoly(control_points(smooth)[:, None], [0, 1])
    corners = control_points(chain)
    for t in TS:
        expected = torch.from_numpy(polynomial(t))
        torch.testing.assert_close(flat(smooth.point(t)), expected)
        by_entry = [np.interp(3 * t, range(4), column) for column in corners.T]
        torch.testing.assert_close(flat(chain.point(t)), torch.tensor(by_entry))
    single = bent(Curve.polychain(a, b))
    torch.testing.assert_close(
        flat(single.point(0.5)), torch.from_numpy(control_points(single)[1])
    )


def test_the_length_is_the_integral_of_the_speed():
    a, b = problems.mlp(), problems.mlp(seed=1)
    curve = bent(Curve.bezier(a, b, 3))
    derivative = BPoly(control_points(curve)[:, None], [0, 1]).derivative()
    expected = quad(lambda t: np.linalg.norm(derivative(t)), 0, 1, epsabs=1e-12)[0]
    assert curve.length() == pytest.approx(expected, rel=1e-10)
    chain = bent(Curve.polychain(a, b, 3))
    sides = np.diff(control_points(chain), axis=0)
    assert chain.length() == pytest.approx(np.linalg.norm(sides, axis=1).sum())
    fine = torch.linspace(0, 1, 4001, dtype=torch.float64).tolist()
    assert float(curve.distances(fine).sum()) == pytest.approx(expected, rel=1e-6)
    # A quarter of a parabola has a closed form, and a way back on itself a cusp.
    a, b = Point(0.0, 0.0), Point(1.0, 1.0)
    curve = dataclasses.replace(
        Curve.bezier(a, b),
        directions=((torch.tensor([0.5, 0.0]).double(),), (torch.ones(2).double(),)),
    )
    arc = math.sqrt(5) / 2 + math.asinh(2) / 4  # of y = x^2 from 0 to 1
    assert curve.length() == pytest.approx(arc, rel=1e-12)
    there = dataclasses.replace(
        curve, directions=((2 * torch.ones(2).double(),), (torch.zeros(2).double(),))
    )
    assert there.length() == pytest.approx(2 * math.sqrt(2), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("make", KINDS)
def test_a_fit_goes_around_the_hill_of_a_ring(make):
    a, b, objective = on_the_ring()
    line = make(a, b, bends=1 if make is Curve.bezier else 3)
    optimizer = lambda bends: torch.optim.SGD(bends, lr=0.05)  # noqa: E731
    fitted = line.fit(objective, steps=600, optimizer=optimizer, seed=1)
    before, after = (landscape(objective, c, (0, 1, 61)).loss for c in (line, fitted))
    assert float(before.max()) == pytest.approx(1, abs=1e-3)
    assert float(after.max()) < 0.2
    assert after[0] == before[0]
    assert after[-1] == before[-1]
    assert np.mean(fitted.losses[-100:]) < 0.3 * np.mean(fitted.losses[:100])
    assert len(fitted.losses) == 600
    assert fitted.length() > line.length()


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["tanh", "tied", "lstm", "batch_norm"])
def test_a_step_of_the_fit_has_the_gradient_of_dense_autograd(name, make):
    """One step of SGD with rate 1 moves the bends by the gradient."""
    model, data = problems.networks()[name]
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=problems.generator(5)).double())
    curve, penalty = bent(make(model, other, 2)), L2(0.05, "all")
    objective = problems.objective(model, data, batch_size=7, penalty=penalty)
    fitted = curve.fit(
        objective, steps=1, optimizer=lambda bends: torch.optim.SGD(bends, lr=1.0)
    )
    t = float(torch.rand((), generator=stream(0), dtype=torch.float64))
    loss = problems.loss_of(model, data, mode="train", batch_size=7)
    points = torch.from_numpy(control_points(curve)).requires_grad_()
    if curve.kind == "bezier":
        at = sum(
            w * p
            for w, p in zip(
                ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3), points
            )
        )
    else:
        at = sum(max(0, 1 - abs(3 * t - k)) * p for k, p in enumerate(points))
    value = loss(at)
    (gradient,) = torch.autograd.grad(value + 0.05 * at.square().sum(), points)
    assert fitted.losses[0] == pytest.approx(value.item(), rel=1e-12)
    moved = torch.from_numpy(control_points(fitted) - control_points(curve))
    torch.testing.assert_close(moved[1:3], -gradient[1:3], rtol=1e-9, atol=1e-12)
    assert not moved[[0, 3]].any()


def test_the_model_comes_back_and_the_fit_is_its_seed():
    model, data = problems.networks()["batch_norm"]
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[4].weight.neg_()
    model.train()
    model[4].bias.grad = torch.ones(problems.CLASSES).double()
    curve = Curve.bezier(model, other)
    objective = problems.objective(model, data)
    before = problems.state_of(model), problems.state_of(other)
    seen = []
    first = curve.fit(objective, steps=4, seed=2, progress=lambda *at: seen.append(at))
    torch.manual_seed(99)
    before[0]["random"] = before[1]["random"] = torch.get_rng_state()
    with torch.no_grad(), problems.bfloat16_autocast():
        second = curve.fit(objective, steps=4, seed=2)
    third = curve.fit(objective, steps=4, seed=3)
    for model_, then in zip((model, other), before, strict=True):
        problems.assert_same(problems.state_of(model_), then)
    assert first.losses == second.losses != third.losses
    for p, q in zip(first.directions[0], second.directions[0], strict=True):
        assert torch.equal(p, q)
        assert not p.requires_grad
    assert seen == [(i, 4) for i in range(1, 5)]
    assert curve.losses == ()
    assert "fit_steps=4" in repr(first)
    assert problems.flat(model).numel() == sum(p.numel() for p in first.base)


def test_an_exception_inside_leaves_no_trace():
    model, data = problems.mlp(), problems.vectors()
    calls = []

    def loss(model, batch):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    objective = problems.objective(model, data, loss=loss)
    curve = Curve.bezier(model, problems.mlp(seed=1))
    before = problems.state_of(model)
    with pytest.raises(KeyboardInterrupt):
        curve.fit(objective, steps=5)
    problems.assert_same(problems.state_of(model), before)


def test_frozen_parameters_stay_and_float32_works():
    a, b = problems.mlp().float(), problems.mlp(seed=1).float()
    for model in (a, b):
        nn.init.ones_(model[0].weight)
        model[0].weight.requires_grad_(False)
    data = problems.vectors()
    objective = Objective(a, (data[0].float(), data[1]), batch_size=3)
    curve = Curve.bezier(a, b).fit(objective, steps=3)
    assert "0.weight" not in curve.names
    assert all(p.dtype == torch.float32 for d in curve.directions for p in d)
    found = landscape(objective, curve, (0, 1, 3)).loss
    ends = [Objective(m, (data[0].float(), data[1])).value().value for m in (a, b)]
    assert found[[0, 2]].tolist() == pytest.approx(ends, rel=1e-6)


def test_parametrized_weights_and_half_precision_are_fitted():
    """The loss of a step is that of the network at the point of the step."""
    a, b = problems.mlp(), problems.mlp(seed=1)
    for model in (a, b):
        nn.utils.parametrizations.weight_norm(model[2])
    data = problems.vectors()
    objective = problems.objective(a, data, batch_size=7)
    curve = Curve.bezier(a, b.state_dict())
    t = float(torch.rand((), generator=stream(0), dtype=torch.float64))
    with nn.utils.parametrize.cached():
        fitted = curve.fit(objective, steps=1)
    there = problems.loss_of(a, data)(flat(curve.point(t)))
    assert fitted.losses[0] == pytest.approx(there.item(), rel=1e-12)
    a, b = (problems.mlp(seed=s).bfloat16() for s in (0, 1))
    half = Objective(a, (data[0].bfloat16(), data[1]), batch_size=3)
    fitted = Curve.polychain(a, b, 2).fit(half, steps=4)
    assert {p.dtype for d in fitted.directions for p in d} == {torch.bfloat16}
    assert all(map(math.isfinite, landscape(half, fitted, (0, 1, 5)).loss.tolist()))


def test_names_of_a_wrapper_are_those_of_its_network():
    a, b = problems.mlp(), problems.mlp(seed=1)
    wrapped = nn.DataParallel(a)
    data = problems.vectors()
    curve = Curve.bezier(wrapped, b).fit(problems.objective(wrapped, data), steps=2)
    plain = Curve.bezier(a, b).fit(problems.objective(a, data), steps=2)
    assert curve.losses == plain.losses


def test_batches_of_other_forms_and_fresh_ones():
    a, b, objective = on_the_ring()
    read = []

    class Fresh:
        def __iter__(self):
            read.append(1)
            return iter([torch.ones(2).double(), torch.zeros(0).double()])

    curve = Curve.bezier(a, b)
    fitted = curve.fit(objective, steps=5, batches=Fresh())
    assert len(read) == 3
    assert fitted.losses[1] == 0  # no loss term
    with pytest.raises(DataError, match="cannot be read again"):
        curve.fit(objective, steps=5, batches=iter([torch.ones(2).double()]))


def test_buffers_go_with_the_coordinate_and_bends_have_none():
    model, data = problems.networks()["batch_norm"]
    other = copy.deepcopy(model)
    problems.normed(other[1], seed=5)
    curve = Curve.bezier(model, other, bends=2)
    (mean,) = (v for k, v in curve.changed_buffers(0.25).items() if "mean" in k)
    torch.testing.assert_close(
        mean, torch.lerp(model[1].running_mean, other[1].running_mean, 0.25)
    )
    assert curve.changed_buffers(0.0) == {}
    found = landscape(
        problems.objective(model, data), curve, [0, 1], batch_norm="interpolate"
    )
    ends = [problems.objective(m, data).value().value for m in (model, other)]
    assert found.loss.tolist() == pytest.approx(ends, rel=1e-14)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["tanh", "tied", "lstm"])
def test_losses_along_it_are_those_of_the_networks_there(name, make):
    model, data = problems.networks()[name]
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.neg_()
    curve = bent(make(model, other, 2))
    loss = problems.loss_of(model, data)
    expected = [loss(flat(curve.point(t))).item() for t in TS]
    for way in ("auto", "one_by_one", "fastest"):
        objective = problems.objective(model, data)
        found = landscape(objective, curve, TS, strategy=way).loss
        assert found.tolist() == pytest.approx(expected, rel=1e-10)
    assert landscape(problems.objective(model, data), curve).x[::50] == (0.0, 1.0)


def test_statistics_along_the_curve():
    a, b, objective = on_the_ring()
    curve = bent(Curve.bezier(a, b))
    coordinates = [0.0, 0.2, 0.5, 1.0]
    surface = landscape(objective, curve, coordinates)
    found = curve.statistics(surface)
    losses = surface.loss.numpy()
    points = np.array([flat(curve.point(t)).numpy() for t in coordinates])
    sides = np.linalg.norm(np.diff(points, axis=0), axis=1)
    arc = (sides * (losses[1:] + losses[:-1]) / 2).sum() / sides.sum()
    assert found.minimum == losses.min()
    assert found.maximum == losses.max()
    assert found.mean == pytest.approx(losses.mean())
    assert found.arc_mean == pytest.approx(arc, rel=1e-12)
    with pytest.raises(SettingError, match="one of loss, got 'error'"):
        curve.statistics(surface, "error")
    with pytest.raises(SettingError, match="two or more points of one axis"):
        curve.statistics(landscape(objective, curve, [0.5]))


def test_the_plane_of_the_bend_holds_the_curve():
    a, b = problems.mlp(), problems.mlp(seed=1)
    objective = problems.objective(a, problems.vectors())
    for make in KINDS:
        curve = bent(make(a, b))
        plane = curve.plane()
        u, v = map(flat, plane.directions)
        assert float(u @ u) == pytest.approx(1)
        assert float(v @ v) == pytest.approx(1)
        assert float(u @ v) == pytest.approx(0, abs=1e-12)
        path = curve.path_in(plane, TS)
        assert float(path.residual.max()) == 0
        for t, (x, y) in zip(TS, path.coordinates.tolist(), strict=True):
            torch.testing.assert_close(flat(plane.point(x, y)), flat(curve.point(t)))
        size = float(flat(curve.directions[-1]).norm())
        assert path.coordinates[-1].tolist() == pytest.approx([size, 0], abs=1e-12)
        assert plane.axes[0].range == pytest.approx((-size / 4, 5 * size / 4))
        grid = landscape(objective, plane, (*plane.axes[0].range, 7), [0.0])
        assert {0.0, plane.axes[0].range[1] * 4 / 5} <= set(grid.x)
        surface = landscape(objective, plane, [size], [0.0]).with_path(path)
        end = problems.objective(b, problems.vectors()).value().value
        assert surface.loss.item() == pytest.approx(end, rel=1e-14)


def test_of_several_bends_the_residual_says_how_far_the_curve_is_off():
    curve = bent(Curve.bezier(problems.mlp(), problems.mlp(seed=1), 3))
    plane = curve.plane(0)
    path = curve.path_in(plane, TS)
    u, v = map(flat, plane.directions)
    for t, residual in zip(TS, path.residual.tolist(), strict=True):
        apart = flat(curve.point(t)) - flat(curve.base)
        rest = apart - (apart @ u) * u - (apart @ v) * v
        assert residual == pytest.approx(float(rest.norm()), rel=1e-9, abs=1e-9)
    assert float(path.relative_residual.max()) > 0.1
    with pytest.raises(SettingError, match="from 0 to 2, got 3"):
        curve.plane(3)


def test_bad_calls_are_one_sentence():
    a, b, objective = on_the_ring()
    curve = Curve.bezier(a, b)
    with pytest.raises(SettingError, match="bends must be >= 1, got 0"):
        Curve.bezier(a, b, bends=0)
    with pytest.raises(SettingError, match="steps must be >= 1"):
        curve.fit(objective, steps=0)
    with pytest.raises(SettingError, match=r"Curve.fit needs a steppe.Objective"):
        curve.fit(a, steps=1)
    with pytest.raises(SettingError, match="makes an optimizer of torch"):
        curve.fit(objective, steps=1, optimizer=lambda bends: bends[0])
    with pytest.raises(SettingError, match="step from one gradient, got LBFGS"):
        curve.fit(objective, steps=1, optimizer=torch.optim.LBFGS)
    with pytest.raises(SettingError, match="function that makes an optimizer"):
        curve.fit(objective, steps=1, optimizer="adam")
    with pytest.raises(SettingError, match=r"w is of shape \(2,\) in one"):
        curve.fit(problems.objective(problems.mlp(), problems.vectors()), steps=1)
    with pytest.raises(UsageError, match=r"is (nan|inf) in step .* smaller learning"):
        curve.fit(objective, steps=50, optimizer=lambda w: torch.optim.SGD(w, lr=1e200))
    with pytest.raises(UsageError, match="fit the curve first"):
        Curve.bezier(Point(0.0, 0.0), Point(1.0, 0.0)).plane()
