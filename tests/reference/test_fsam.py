"""F-SAM against its recursion, written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import loops
from loops import batches, identical, loop_step, make_model, values
from steppe import FSAM, SAM

H = np.diag([4.0, 1.0, 0.25])
CENTRES = np.random.default_rng(0).normal(size=(8, 3))  # of the batches' quadratics
START = np.array([1.0, -2.0, 3.0])


def trained(opt: torch.optim.Optimizer, w: nn.Parameter, steps: int = 8) -> np.ndarray:
    matrix = torch.from_numpy(H)
    for centre in torch.from_numpy(CENTRES)[:steps]:
        for _ in opt.passes():
            ((w - centre) @ matrix @ (w - centre) / 2).backward()
        opt.step()
    return w.detach().numpy()


def recursion(rho: float, sigma: float, lmbda: float, steps: int = 8) -> np.ndarray:
    w, mean = START.copy(), np.zeros(3)
    for t, centre in enumerate(CENTRES[:steps]):
        g = H @ (w - centre)
        u = g - sigma * mean
        mean = g if t == 0 else lmbda * mean + (1 - lmbda) * g
        w = w - 0.1 * H @ (w + rho * u / np.linalg.norm(u) - centre)
    return w


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(START.copy()))


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("lmbda", [0.0, 0.6, 0.95])
def test_several_steps_are_the_recursion(sigma, lmbda):
    w = parameter()
    base = torch.optim.SGD([w], lr=0.1)
    seen = trained(FSAM(base, rho=0.3, sigma=sigma, lmbda=lmbda), w)
    np.testing.assert_allclose(seen, recursion(0.3, sigma, lmbda), rtol=1e-10)


def test_the_direction_is_that_of_the_paper_for_sigma_1():
    """The paper subtracts the mean that holds the present gradient already."""
    w = parameter()
    opt = FSAM(torch.optim.SGD([w], lr=0.1), rho=0.3, sigma=1.0, lmbda=0.9)
    trained(opt, w, steps=1)
    place = w.detach().numpy().copy()
    mean = H @ (START - CENTRES[0])
    g = H @ (place - CENTRES[1])
    paper = g - (0.9 * mean + 0.1 * g)
    moved = None
    for index in opt.passes():
        if index == 1:
            moved = w.detach().numpy() - place
        centre = torch.from_numpy(CENTRES[1])
        ((w - centre) @ torch.from_numpy(H) @ (w - centre) / 2).backward()
    np.testing.assert_allclose(moved, 0.3 * paper / np.linalg.norm(paper), rtol=1e-9)


def test_a_gradient_that_is_always_the_same_gives_no_perturbation():
    w = parameter()
    opt = FSAM(torch.optim.SGD([w], lr=0.1), rho=0.3, sigma=1.0)
    moves = []
    for _ in range(4):
        places = []
        for _ in opt.passes():
            places.append(w.detach().clone())
            (w * torch.from_numpy(START)).sum().backward()
        opt.step()
        moves.append(not torch.equal(*places))
    # In the first step nothing is remembered yet: the mean is zero.
    assert moves == [True, False, False, False]


def test_groups_have_a_sigma_and_a_lmbda_of_their_own():
    a, b = parameter(), parameter()
    groups = [
        {"params": [a], "sigma": 0.0},
        {"params": [b], "lmbda": 0.5, "sigma": 2.0},
    ]
    opt = FSAM(torch.optim.SGD(groups, lr=0.0), rho=0.3)
    slopes = [torch.from_numpy(c) for c in CENTRES[:3]]
    for slope in slopes:
        start = torch.cat([a, b]).detach()
        for index in opt.passes():
            if index == 1:
                moved = torch.cat([a, b]).detach() - start
            ((a + b) * slope).sum().backward()
        opt.step()
    mean = 0.5 * CENTRES[0] + 0.5 * CENTRES[1]
    u = np.concatenate([CENTRES[2], CENTRES[2] - 2.0 * mean])
    expected = 0.3 * u / np.linalg.norm(u)
    np.testing.assert_allclose(moved.numpy(), expected, rtol=1e-9)


def test_sigma_0_is_sam_bit_for_bit():
    model, plain = make_model(), make_model()
    opt = FSAM(loops.momentum(model), rho=0.2, sigma=0.0)
    twin = SAM(loops.momentum(plain), rho=0.2)
    for x, y in batches(5):
        loop_step(opt, model, x, y)
        loop_step(twin, plain, x, y)
    assert identical(values(model), values(plain))


def test_a_zero_gradient_gives_a_finite_step():
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    opt = FSAM(torch.optim.SGD([w], lr=0.1))
    for _ in range(3):
        for _ in opt.passes():
            (w**2).sum().backward()
        opt.step()
    assert torch.equal(w.detach(), torch.zeros(3, dtype=torch.float64))


def test_a_step_on_a_device_looks_at_no_value():
    """On the meta device there are none: looking at one raises."""
    w = nn.Parameter(torch.empty(3, device="meta"))
    opt = FSAM(torch.optim.SGD([w], lr=0.1))
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
        opt = FSAM(base, rho=0.3, sigma=0.5, scaler=scaler)
        for t in range(4 + overflows):
            factor = float("inf") if t < overflows else 1.0
            for _ in opt.passes():
                scaler.scale((w**4).sum() * 0.01 * factor).backward()
            scaler.step(opt)
            scaler.update()
        assert opt.steps == 4
        results.append(w.detach())
    torch.testing.assert_close(*results, rtol=1e-12, atol=0)
