"""Entropy-SGD against closed forms, and its recursion with the recorded draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import problems
from steppe import EntropySGD
from steppe.errors import SettingError, UsageError
from steppe.schedules import Scoping

CURVATURES = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
H = torch.diag(CURVATURES)
START = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
QUIET = {"noise": 0.0, "inner_momentum": 0.0}


def outward(**settings):
    """The final gradient on the quadratic, and where the passes were."""
    w = nn.Parameter(START.clone())
    opt = EntropySGD(torch.optim.SGD([w], lr=0.1), **{**QUIET, **settings})
    seen = []
    for _ in opt.passes():
        seen.append(w.detach().clone())
        (w @ H @ w / 2).backward()
    assert torch.equal(w.detach(), START)
    return w.grad, seen


def test_the_walk_descends_the_loss_and_the_pull_to_the_weights():
    gamma, lr = 0.5, 0.1
    _, seen = outward(inner_steps=6, gamma=gamma, inner_lr=lr)
    fixed = gamma * START / (CURVATURES + gamma)  # gamma (H + gamma I)^-1 w
    for k, x in enumerate(seen):
        expected = fixed + (1 - lr * (CURVATURES + gamma)) ** k * (START - fixed)
        torch.testing.assert_close(x, expected, rtol=1e-12, atol=0)


def test_the_mean_of_the_walk_is_exponential():
    final, seen = outward(inner_steps=3, alpha=0.75, scale_outer_by_gamma=False)
    _, longer = outward(inner_steps=4)
    x1, x2, x3 = longer[1:]
    assert len(seen) == 3
    mean = 0.75**3 * START + 0.25 * (0.75**2 * x1 + 0.75 * x2 + x3)
    torch.testing.assert_close(final, START - mean, rtol=1e-12, atol=1e-15)


def test_a_long_walk_gives_the_gradient_of_the_moreau_envelope():
    final, _ = outward(inner_steps=400, gamma=0.5, scale_outer_by_gamma=False)
    expected = CURVATURES / (CURVATURES + 0.5) * START  # H (H + gamma I)^-1 w
    torch.testing.assert_close(final, expected, rtol=1e-10, atol=0)
    scaled, _ = outward(inner_steps=400, gamma=0.5)
    torch.testing.assert_close(scaled, 0.5 * expected, rtol=1e-10, atol=0)


def test_a_strong_pull_gives_back_the_gradient():
    final, _ = outward(inner_steps=400, gamma=1e6, inner_lr=1e-7)
    torch.testing.assert_close(final, CURVATURES * START, rtol=1e-5, atol=0)


SHAPE = {
    "inner_steps": 4,
    "inner_lr": 0.05,
    "noise": 0.3,
    "alpha": 0.6,
    "inner_momentum": 0.8,
    "inner_weight_decay": 0.2,
}
FLAGS = list(itertools.product([False, True], repeat=3))


def walk(w, gamma, draws, *, nesterov, scaled, coupled):
    """The final gradient of one step on the quadratic, without steppe."""
    curvatures, eta, mu = CURVATURES.numpy(), SHAPE["inner_lr"], SHAPE["inner_momentum"]
    x, mean, v = w.copy(), w.copy(), np.zeros(3)
    for _ in range(SHAPE["inner_steps"]):
        d = curvatures * x + SHAPE["inner_weight_decay"] * x
        pull = gamma * (x - w)
        if coupled:
            d = d + pull
        v = mu * v + d
        d = d + mu * v if nesterov else v.copy()
        if not coupled:
            d = d + pull
        # The published forms put the noise into d: eps / sqrt(eta / 2) times eta.
        xi = torch.randn(3, generator=draws, dtype=torch.float64).numpy()
        x = x - eta * d + eta * SHAPE["noise"] / np.sqrt(0.5 * eta) * xi
        mean = SHAPE["alpha"] * mean + (1 - SHAPE["alpha"]) * x
    return (gamma if scaled else 1.0) * (w - mean)


@pytest.mark.parametrize(("nesterov", "scaled", "coupled"), FLAGS)
def test_several_steps_follow_the_recursion(nesterov, scaled, coupled):
    scope = Scoping(0.5, 0.5, maximum=1.0)
    w = nn.Parameter(START.clone())
    opt = EntropySGD(
        torch.optim.SGD([w], lr=0.3, momentum=0.9, weight_decay=0.1),
        gamma=scope,
        nesterov=nesterov,
        scale_outer_by_gamma=scaled,
        momentum_includes_coupling=coupled,
        seed=11,
        **SHAPE,
    )
    x, v, draws = START.numpy().copy(), np.zeros(3), problems.generator(11)
    for t in range(3):
        for _ in opt.passes():
            (w @ H @ w / 2).backward()
        opt.step()
        flags = {"nesterov": nesterov, "scaled": scaled, "coupled": coupled}
        g = walk(x, (0.5, 0.75, 1.0)[t], draws, **flags) + 0.1 * x
        v = 0.9 * v + g
        x = x - 0.3 * v
        np.testing.assert_allclose(w.detach().numpy(), x, rtol=1e-12)


def test_scoping_grows_to_its_maximum():
    published = Scoping(0.5, 1e-4, maximum=2.38)
    table = {0: 0.5, 1: 0.50005, 1000: 0.55258, 15604: 2.38, 10**9: 2.38}
    assert {t: round(published(t), 5) for t in table} == table
    assert Scoping(0.5, 0.0)(10**6) == 0.5
    assert published(15603) < 2.38
    with pytest.raises(SettingError, match=r"start must be > 0, got 0\.0"):
        Scoping(0.0, 0.1)
    with pytest.raises(SettingError, match="maximum must be >= start"):
        Scoping(0.5, 0.1, maximum=0.4)


def test_each_inner_step_takes_a_share_of_the_batch_or_a_batch_of_its_own():
    data = torch.arange(7.0, dtype=torch.float64)
    finals, rows = [], []
    for shared in (True, False):
        w = nn.Parameter(START.clone())
        base = torch.optim.SGD([w], lr=0.1)
        opt = EntropySGD(base, inner_steps=3, **QUIET)
        fresh = iter((data[:3], data[3:5], data[5:]))
        for _ in opt.passes():
            x = opt.take(data) if shared else next(fresh)
            rows.append(x.tolist())
            (w.sum() * x.mean()).backward()
        finals.append(w.grad)
    assert rows[:3] == rows[3:] == [[0, 1, 2], [3, 4], [5, 6]]
    assert torch.equal(*finals)


def test_parameters_that_do_not_walk_get_their_mean_gradient():
    w, still = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    groups = [{"params": [w]}, {"params": [still], "perturb": False}]
    opt = EntropySGD(torch.optim.SGD(groups, lr=0.1), inner_steps=3, **QUIET)
    factors = iter((1.0, 2.0, 6.0))
    for _ in opt.passes():
        assert torch.equal(still.detach(), START)
        (w.sum() + next(factors) * still.sum()).backward()
    torch.testing.assert_close(still.grad, torch.full_like(START, 3.0))


def test_parameters_walk_only_where_they_have_a_gradient():
    w, rare, unused = (nn.Parameter(START.clone()) for _ in range(3))
    base = torch.optim.SGD([w, rare, unused], lr=0.1)
    opt = EntropySGD(base, inner_steps=2, gamma=1.0, noise=0.1, seed=1)
    for index in opt.passes():
        if index == 1:
            assert torch.equal(rare.detach(), START)
        (w.sum() + (rare.sum() if index == 1 else 0.0)).backward()
    draws = problems.generator(1)
    torch.randn((2, 3), generator=draws, dtype=torch.float64)  # those of w
    xi = torch.randn(3, generator=draws, dtype=torch.float64)
    expected = 0.25 * (0.1 - 0.1 * 0.2**0.5 * xi)
    torch.testing.assert_close(rare.grad, expected, rtol=1e-9, atol=1e-12)
    assert unused.grad is None


def test_a_base_of_adam_steps_with_the_same_gradient():
    w, twin = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    opt = EntropySGD(torch.optim.Adam([w], lr=0.1), **QUIET)
    adam = torch.optim.Adam([twin], lr=0.1)
    for _ in range(3):
        for _ in opt.passes():
            (w @ H @ w / 2).backward()
        twin.grad = w.grad.clone()
        opt.step()
        adam.step()
        assert torch.equal(w, twin)


def test_misuse_is_one_clear_sentence():
    base = torch.optim.SGD([nn.Parameter(START.clone())], lr=0.1)
    for name, bad in (("inner_steps", -1), ("alpha", 1.5), ("inner_momentum", -0.1)):
        with pytest.raises(SettingError, match=f"{name} must be"):
            EntropySGD(base, **{name: bad})
    with pytest.raises(UsageError, match=r"takes one passes\(\) loop per step"):
        EntropySGD(base).passes(accumulate=True)


def test_a_step_on_a_device_looks_at_no_value():
    """On the meta device there are none: looking at one raises."""
    w = nn.Parameter(torch.empty(4, 3, device="meta"))
    base = torch.optim.SGD([w], lr=0.1)
    opt = EntropySGD(base, generator=problems.generator())
    for _ in range(2):
        for _ in opt.passes():
            w.grad = torch.empty_like(w)
        opt.step()
    assert opt.steps == 2
