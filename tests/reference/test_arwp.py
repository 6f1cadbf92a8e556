"""ARWP against its recursion, written in numpy with the recorded draws."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import problems
from steppe import ARWP
from steppe.errors import SettingError

KERNEL = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(3, 2, 2)
BIAS = torch.tensor([0.5, -1.5], dtype=torch.float64)
SETTINGS = {"sigma": 0.2, "mix": 0.4, "eta": 3.0, "beta": 0.8, "batches": "whole"}
LR = 0.01


def make(seed=7, **more):
    params = [nn.Parameter(KERNEL.clone()), nn.Parameter(BIAS.clone())]
    base = torch.optim.SGD(params, lr=LR)
    return ARWP(base, seed=seed, **{**SETTINGS, **more}), params


def step(opt, params):
    for _ in opt.passes():
        sum((p**4).sum() / 4 for p in params).backward()
    opt.step()


def recursion(steps, seed=7):
    """The quartic's weights after some steps, without steppe."""
    source = problems.generator(seed)
    w = [KERNEL.numpy().copy(), BIAS.numpy().copy()]
    squares = [np.zeros((3, 1, 1)), np.zeros(2)]
    for _ in range(steps):
        for i, p in enumerate(w):
            draw = torch.randn(p.shape, generator=source, dtype=torch.float64).numpy()
            if i == 0:
                norm = np.sqrt((p**2).sum((1, 2), keepdims=True))
            else:
                norm = np.sqrt((p**2).sum())
            n = SETTINGS["sigma"] * norm * draw
            noisy = (p + n / np.sqrt(1 + SETTINGS["eta"] * squares[i])) ** 3
            fresh = (noisy**2).sum((1, 2), keepdims=True) if i == 0 else noisy**2
            squares[i] = SETTINGS["beta"] * squares[i] + fresh
            w[i] = p - LR * (0.6 * p**3 + 0.4 * noisy)
    return w


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_steps_on_a_quartic_follow_the_recursion(steps):
    opt, params = make()
    for _ in range(steps):
        step(opt, params)
    for p, expected in zip(params, recursion(steps), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-12)


def test_on_a_cpu_the_memory_is_one_number_per_filter():
    opt, params = make()
    step(opt, params)
    kernel, bias = opt.state_dict()["steppe"]["memory"]["tensors"]["fisher"].values()
    assert kernel.shape == KERNEL.shape
    assert kernel.untyped_storage().nbytes() == 3 * 8
    assert bias.untyped_storage().nbytes() == 2 * 8


def test_a_loaded_memory_goes_on_like_the_saved_one():
    opt, params = make()
    step(opt, params)
    other, copies = make(seed=8)
    for mine, theirs in zip(copies, params, strict=True):
        mine.data.copy_(theirs.detach())
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(2):
        step(opt, params)
        step(other, copies)
    for mine, theirs in zip(copies, params, strict=True):
        assert torch.equal(mine, theirs)


def test_a_filter_without_gradient_forgets_and_one_with_gradient_gets_less_noise():
    opt, _ = make(eta=100.0)
    (kernel, bias), sizes = [p for g in opt.param_groups for p in g["params"]], []
    for _ in range(200):
        for index in opt.passes():
            if index == 1:
                sizes.append((kernel - KERNEL).detach().norm(dim=(1, 2)))
            (1e3 * kernel[0].sum() + 0 * kernel.sum() + 0 * bias.sum()).backward()
        opt.zero_grad()  # no step: the weights are to stay
    sizes = torch.stack(sizes)
    assert sizes[1:, 0].max() < sizes[1:, 1].min()


def test_a_beta_out_of_range_is_refused():
    with pytest.raises(SettingError, match="beta must be between 0 and 1"):
        make(beta=1.1)


def test_a_step_on_a_device_looks_at_no_value():
    """On the meta device there are none: looking at one raises."""
    w = nn.Parameter(torch.empty(4, 3, device="meta"))
    base = torch.optim.SGD([w], lr=0.1)
    opt = ARWP(base, generator=problems.generator())
    for _ in range(2):
        for _ in opt.passes():
            w.grad = torch.empty_like(w)
        opt.step()
    assert opt.steps == 2


def test_on_a_device_the_memory_is_one_number_per_filter_too():
    w = nn.Parameter(torch.empty(4, 3, 2, device="meta"))
    opt = ARWP(torch.optim.SGD([w], lr=0.1), mix=1.0, generator=torch.Generator("cpu"))
    for _ in range(2):
        for _ in opt.passes():
            w.grad = torch.empty_like(w)
        opt.step()
    (kept,) = opt.state_dict()["steppe"]["memory"]["tensors"]["fisher"].values()
    assert kept.shape == w.shape
    assert kept.untyped_storage().nbytes() == 4 * 4
