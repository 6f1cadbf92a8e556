"""VaSSO against its recursion, written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import loops
from loops import batches, identical, loop_step, make_model, values
from steppe import SAM, VaSSO

H = np.diag([4.0, 1.0, 0.25])
CENTRES = np.random.default_rng(0).normal(size=(8, 3))  # of the batches' quadratics
START = np.array([1.0, -2.0, 3.0])


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(START.copy()))


@pytest.mark.parametrize("theta", [0.0, 0.2, 0.4, 1.0])
def test_several_steps_are_the_recursion(theta):
    w, matrix = parameter(), torch.from_numpy(H)
    opt = VaSSO(torch.optim.SGD([w], lr=0.1), rho=0.3, theta=theta)
    for centre in torch.from_numpy(CENTRES):
        for _ in opt.passes():
            ((w - centre) @ matrix @ (w - centre) / 2).backward()
        opt.step()
    place, direction = START.copy(), None
    for centre in CENTRES:
        g = H @ (place - centre)
        direction = g if direction is None else (1 - theta) * direction + theta * g
        uphill = place + 0.3 * direction / np.linalg.norm(direction)
        place = place - 0.1 * H @ (uphill - centre)
    np.testing.assert_allclose(w.detach().numpy(), place, rtol=1e-10)


def moves(theta: float, slopes: np.ndarray) -> np.ndarray:
    """Perturbations, shape (steps, 3), for losses with the given slopes."""
    w = parameter()
    opt = VaSSO(torch.optim.SGD([w], lr=0.0), rho=1.0, theta=theta)
    seen = []
    for slope in torch.from_numpy(slopes):
        for index in opt.passes():
            if index == 1:
                seen.append(w.detach().numpy() - START)
            (w * slope).sum().backward()
        opt.step()
    return np.stack(seen)


@pytest.mark.slow
def test_a_small_theta_suppresses_the_variance_of_the_perturbation():
    """Theorem 1: the mean squared error of the direction falls with theta."""
    noise = np.random.default_rng(1).normal(size=(600, 3))
    slopes = np.array([1.0, 0.0, 0.0]) + noise
    spread = [moves(theta, slopes)[100:].var(0).sum() for theta in (1.0, 0.2, 0.05)]
    assert spread[0] > 2 * spread[1]
    assert spread[1] > 2 * spread[2]


def test_theta_0_keeps_the_first_direction():
    seen = moves(0.0, CENTRES[:4])
    unit = CENTRES[0] / np.linalg.norm(CENTRES[0])
    np.testing.assert_allclose(seen, np.tile(unit, (4, 1)), rtol=1e-9)


def test_groups_have_a_theta_of_their_own():
    a, b = parameter(), parameter()
    groups = [{"params": [a], "theta": 1.0}, {"params": [b]}]
    opt = VaSSO(torch.optim.SGD(groups, lr=0.0), rho=0.3, theta=0.25)
    for slope in torch.from_numpy(CENTRES[:2]):
        start = torch.cat([a, b]).detach()
        for index in opt.passes():
            if index == 1:
                moved = torch.cat([a, b]).detach() - start
            ((a + b) * slope).sum().backward()
        opt.step()
    d = np.concatenate([CENTRES[1], 0.75 * CENTRES[0] + 0.25 * CENTRES[1]])
    np.testing.assert_allclose(moved.numpy(), 0.3 * d / np.linalg.norm(d), rtol=1e-9)


def test_theta_1_is_sam_bit_for_bit():
    model, plain = make_model(), make_model()
    opt = VaSSO(loops.momentum(model), rho=0.2, theta=1.0)
    twin = SAM(loops.momentum(plain), rho=0.2)
    for x, y in batches(5):
        loop_step(opt, model, x, y)
        loop_step(twin, plain, x, y)
    assert identical(values(model), values(plain))


def test_a_zero_gradient_gives_a_finite_step():
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    opt = VaSSO(torch.optim.SGD([w], lr=0.1))
    for _ in range(3):
        for _ in opt.passes():
            (w**2).sum().backward()
        opt.step()
    assert torch.equal(w.detach(), torch.zeros(3, dtype=torch.float64))


def test_a_step_on_a_device_looks_at_no_value():
    """On the meta device there are none: looking at one raises."""
    w = nn.Parameter(torch.empty(3, device="meta"))
    opt = VaSSO(torch.optim.SGD([w], lr=0.1))
    for _ in range(2):
        for _ in opt.passes():
            w.grad = torch.empty_like(w)
        opt.step()
    assert opt.steps == 2


def test_a_first_step_that_overflows_does_not_begin_the_mean():
    results = []
    for overflows in (0, 2):
        w = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        base = torch.optim.SGD([w], lr=0.1)
        opt = VaSSO(base, rho=0.3, theta=0.4, scaler=scaler)
        for t in range(4 + overflows):
            factor = float("inf") if t < overflows else 1.0
            for _ in opt.passes():
                scaler.scale((w**4).sum() * 0.01 * factor).backward()
            scaler.step(opt)
            scaler.update()
        assert opt.steps == 4
        results.append(w.detach())
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)
