"""ASAM in its published forms against numpy, and what the form is made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import loops
from steppe import ASAM, SAM
from steppe.errors import SettingError, UsageError
from steppe.geometry import Adaptive

RHO, ETA = 0.4, 0.01
STYLES = ("matrices", "samsung", "davda54", "bigvision")


class Net(nn.Module):
    """A layer, a normalisation and a bias that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.shift = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.tanh(self.linear(x))) + self.shift


def problem() -> tuple[Net, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    net = Net().double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name != "shift":
                p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    x = torch.randn(9, 3, generator=g, dtype=torch.float64)
    return net, x, torch.randint(4, (9,), generator=g)


def perturbation(**settings: Any) -> tuple[dict[str, np.ndarray], ...]:
    """Weights, gradients and displacements by name."""
    net, x, y = problem()
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    opt = ASAM(base, rho=RHO, model=net, **settings)
    start = {n: p.detach().numpy().copy() for n, p in net.named_parameters()}
    grads: dict[str, np.ndarray] = {}
    moved: dict[str, np.ndarray] = {}
    for index in opt.passes():
        if index == 1:
            now = {n: p.detach().numpy() for n, p in net.named_parameters()}
            moved = {n: now[n] - start[n] for n in start}
        F.cross_entropy(net(x), y).backward()
        if index == 0:
            grads = {n: p.grad.numpy().copy() for n, p in net.named_parameters()}
    return start, grads, moved


def operator(style: str, name: str, w: np.ndarray, eta: float) -> np.ndarray:
    """T, as each source defines it."""
    if style == "matrices":
        return np.abs(w) + eta if w.ndim > 1 else np.ones_like(w)
    if style == "samsung":
        return np.abs(w) + eta if "weight" in name else np.ones_like(w)
    return np.abs(w)


def length(arrays: Any) -> float:
    return float(np.sqrt(sum((a**2).sum() for a in arrays)))


@pytest.mark.parametrize("style", ["matrices", "samsung", "davda54"])
@pytest.mark.parametrize("eta", [0.0, 0.01, 1.0])
def test_the_displacement_is_equation_7_in_the_operator_of_every_style(style, eta):
    start, grads, moved = perturbation(style=style, eta=eta)
    t = {n: operator(style, n, start[n], eta) for n in start}
    norm = length([t[n] * grads[n] for n in start])
    for n in start:
        expected = RHO * t[n] ** 2 * grads[n] / norm
        np.testing.assert_allclose(moved[n], expected, rtol=1e-8, atol=1e-14)


def test_bigvision_takes_the_first_power_over_the_plain_norm():
    start, grads, moved = perturbation(style="bigvision")
    for n in start:
        expected = RHO * np.abs(start[n]) * grads[n] / length(grads.values())
        np.testing.assert_allclose(moved[n], expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("style", ["matrices", "samsung", "davda54"])
def test_the_largest_entry_norm_moves_every_entry_by_rho_t(style):
    start, grads, moved = perturbation(style=style, eta=ETA, p="inf")
    for n in start:
        expected = RHO * operator(style, n, start[n], ETA) * np.sign(grads[n])
        np.testing.assert_allclose(moved[n], expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("p", ["2", "inf"])
@pytest.mark.parametrize("style", ["matrices", "samsung", "davda54"])
def test_the_displacement_is_on_the_ball_and_nothing_on_it_climbs_further(style, p):
    start, grads, moved = perturbation(style=style, eta=0.5, p=p)
    t = {n: operator(style, n, start[n], 0.5) for n in start}
    names = [n for n in start if t[n].any()]
    order = 2 if p == "2" else np.inf

    def joined(arrays: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([arrays[n].ravel() for n in names])

    scale, climb = joined(t), joined(grads) @ joined(moved)
    assert np.linalg.norm(joined(moved) / scale, order) == pytest.approx(RHO)
    rng = np.random.default_rng(0)
    for _ in range(300):
        other = joined(moved) / scale + 0.1 * rng.normal(size=scale.shape)
        other *= RHO / np.linalg.norm(other, order)
        assert joined(grads) @ (scale * other) < climb


def test_davda54_leaves_zero_biases_where_they_are_and_the_others_move_them():
    for style in STYLES:
        _, _, moved = perturbation(style=style)
        assert moved["shift"].any() == (style in ("matrices", "samsung")), style


def test_samsung_scales_normalisation_weights_and_matrices_does_not():
    start, _, by_name = perturbation(style="samsung", eta=0.0, p="inf")
    _, _, by_shape = perturbation(style="matrices", eta=0.0, p="inf")
    sizes = np.abs(by_name["norm.weight"])
    np.testing.assert_allclose(sizes, RHO * np.abs(start["norm.weight"]), rtol=1e-9)
    np.testing.assert_allclose(np.abs(by_shape["norm.weight"]), RHO, rtol=1e-9)


def two_layers(c: float) -> tuple[nn.Module, Tensor, Tensor]:
    """A ReLU network without biases, its layers rescaled by c and 1/c."""
    g = torch.Generator().manual_seed(1)
    net = nn.Sequential(
        nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)
    ).double()
    with torch.no_grad():
        for layer, factor in ((net[0], c), (net[2], 1 / c)):
            drawn = torch.randn(layer.weight.shape, generator=g, dtype=torch.float64)
            layer.weight.copy_(drawn * factor)
    x = torch.randn(20, 4, generator=g, dtype=torch.float64)
    return net, x, torch.randint(3, (20,), generator=g)


def perturbed_outputs(c: float, **settings: Any) -> Tensor:
    net, x, y = two_layers(c)
    opt = ASAM(torch.optim.SGD(net.parameters(), lr=0.1), model=net, **settings)
    for _ in opt.passes():
        out = net(x)
        F.cross_entropy(out, y).backward()
    return out.detach()


@pytest.mark.parametrize("style", ["matrices", "samsung", "davda54"])
@pytest.mark.parametrize("p", ["2", "inf"])
@pytest.mark.parametrize("c", [0.125, 3.0, 50.0])
def test_rescaled_layers_are_perturbed_to_the_same_function(style, p, c):
    settings = {"rho": 0.3, "eta": 0.0, "style": style, "p": p}
    one, other = (perturbed_outputs(each, **settings) for each in (1.0, c))
    torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_the_plain_ball_and_the_first_power_depend_on_the_scale_of_layers():
    settings = {"rho": 0.3, "eta": 0.0, "style": "bigvision"}
    one, other = (perturbed_outputs(c, **settings) for c in (1.0, 8.0))
    assert (one - other).abs().max() > 1e-3


def test_asam_is_sam_in_the_adaptive_geometry_bit_for_bit():
    results = []
    for make in (
        lambda base: ASAM(base, rho=0.5, eta=0.1),
        lambda base: SAM(base, rho=0.5, geometry=Adaptive(eta=0.1)),
    ):
        net, x, y = problem()
        opt = make(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9))
        for _ in range(3):
            for _ in opt.passes():
                F.cross_entropy(net(x), y).backward()
            opt.step()
        results.append([p.detach() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_groups_have_an_eta_and_a_rho_of_their_own():
    net, x, y = problem()
    groups = [
        {"params": [net.linear.weight], "eta": 1.0, "rho": 0.1},
        {"params": [net.linear.bias, net.shift, *net.norm.parameters()]},
    ]
    opt = ASAM(torch.optim.SGD(groups, lr=0.1), rho=RHO, eta=0.0)
    w, b = (p.detach().numpy().copy() for p in net.linear.parameters())
    for index in opt.passes():
        if index == 1:
            moved = [p.detach().numpy() for p in net.linear.parameters()]
            moved = [moved[0] - w, moved[1] - b]
        F.cross_entropy(net(x), y).backward()
        if index == 0:
            grads = {n: p.grad.numpy().copy() for n, p in net.named_parameters()}
    t = np.abs(w) + 1.0
    norm = length(g * (t if n == "linear.weight" else 1) for n, g in grads.items())
    expected = 0.1 * t**2 * grads["linear.weight"] / norm
    np.testing.assert_allclose(moved[0], expected, rtol=1e-8)
    np.testing.assert_allclose(moved[1], RHO * grads["linear.bias"] / norm, rtol=1e-8)


@pytest.mark.parametrize("p", ["2", "inf"])
def test_a_zero_gradient_gives_a_finite_step(p):
    w = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    opt = ASAM(torch.optim.SGD([w], lr=0.1), p=p)
    for _ in opt.passes():
        (0 * w).sum().backward()
    opt.step()
    assert torch.equal(w.detach(), torch.ones(2, 2, dtype=torch.float64))


def test_forms_that_do_not_exist_are_refused():
    net, x, y = problem()
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(SettingError, match="style must be 'matrices', 'samsung"):
        ASAM(base, style="google")
    with pytest.raises(SettingError, match="p must be '2' or 'inf', got '1'"):
        ASAM(base, p="1")
    with pytest.raises(SettingError, match="defined for p='2' only"):
        ASAM(base, style="bigvision", p="inf")
    opt = ASAM(base, style="samsung")
    loop = opt.passes()
    next(loop)
    F.cross_entropy(net(x), y).backward()
    with pytest.raises(UsageError, match="pass the model with model=model"):
        next(loop)


def test_names_are_looked_up_once_per_loop():
    model = loops.make_model()
    calls = []
    inner = model.named_parameters
    model.named_parameters = lambda *a, **k: calls.append(1) or inner(*a, **k)
    base = torch.optim.SGD([p for _, p in inner()], lr=0.1)
    opt = ASAM(base, style="samsung", model=model)
    calls.clear()
    loops.loop_step(opt, model, *next(loops.batches(1)))
    assert len(calls) == 1
