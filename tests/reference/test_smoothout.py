"""SmoothOut against the closed forms of uniformly smoothed gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe import SmoothOut
from steppe.errors import SettingError

W = torch.tensor([[3.0, 4.0], [0.6, -0.8]], dtype=torch.float64)  # row norms 5 and 1
BIAS = torch.tensor([6.0, 8.0], dtype=torch.float64)  # norm 10


def displacements(scale, a=0.1, seed=3, params=(W, BIAS)):
    """What the passes of one step add to the weights, and the draws behind it."""
    params = [nn.Parameter(p.clone()) for p in params]
    opt = SmoothOut(torch.optim.SGD(params, lr=0.1), a=a, scale=scale, seed=seed)
    before = [p.detach().clone() for p in params]
    for _ in opt.passes():
        moved = [p.detach() - b for p, b in zip(params, before, strict=True)]
        sum((p**2).sum() / 2 for p in params).backward()
    source = problems.generator(seed)
    drawn = [
        2 * torch.rand(p.shape, generator=source, dtype=torch.float64) - 1
        for p in params
    ]
    for p, b, n in zip(params, before, moved, strict=True):
        torch.testing.assert_close(p.grad, b + n, rtol=1e-12, atol=0)
        assert torch.equal(p.detach(), b)
    return moved, drawn


def test_smoothout_adds_a_times_a_uniform_draw():
    moved, drawn = displacements("none")
    for n, u in zip(moved, drawn, strict=True):
        torch.testing.assert_close(n, 0.1 * u, rtol=1e-12, atol=1e-15)


def test_abs_scales_every_entry_by_its_weight():
    moved, drawn = displacements("abs")
    for n, u, w in zip(moved, drawn, (W, BIAS), strict=True):
        torch.testing.assert_close(n, 0.1 * w.abs() * u, rtol=1e-12, atol=1e-15)


def test_adasmoothout_gives_each_filter_exactly_a_times_its_length():
    moved, drawn = displacements("filter")
    lengths = torch.tensor([0.5, 0.1], dtype=torch.float64)
    torch.testing.assert_close(moved[0].norm(dim=1), lengths, rtol=1e-12, atol=0)
    assert moved[1].norm().item() == pytest.approx(1.0, rel=1e-12)
    along = F.cosine_similarity(moved[0], drawn[0])
    torch.testing.assert_close(along, torch.ones(2).double(), rtol=1e-12, atol=0)


def test_tensor_gives_each_tensor_exactly_a_times_its_length():
    moved, drawn = displacements("tensor")
    for n, u, w in zip(moved, drawn, (W, BIAS), strict=True):
        expected = 0.1 * w.norm() * u / u.norm()
        torch.testing.assert_close(n, expected, rtol=1e-12, atol=1e-15)


def test_a_filter_of_zeros_stays_zero():
    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    (moved,), _ = displacements("filter", params=(rows,))
    assert torch.equal(moved[0], torch.zeros(2).double())
    assert moved[1].norm().item() == pytest.approx(0.1 * 2**0.5, rel=1e-12)


def test_the_mean_gradient_of_a_quartic_is_that_of_the_smoothed_loss():
    values = W.flatten()
    w = nn.Parameter(values[:, None].repeat(1, 50000))
    opt = SmoothOut(torch.optim.SGD([w], lr=0.1), a=0.9, scale="none", seed=1)
    for _ in opt.passes():
        ((w**4).sum() / 4).backward()
    expected = values**3 + 3 * values * 0.9**2 / 3  # the noise has variance a^2 / 3
    stderr = w.grad.std(1) / 50000**0.5
    assert ((w.grad.mean(1) - expected).abs() < 4 * stderr).all()
    assert ((expected - values**3).abs() > 20 * stderr).all()  # noise is there


def test_every_share_of_the_batch_has_noise_of_its_own():
    w = nn.Parameter(W.clone())
    opt = SmoothOut(torch.optim.SGD([w], lr=0.1), a=0.1, micro_batches=3, seed=2)
    seen, rows = [], []
    for _ in opt.passes():
        x = opt.take(torch.arange(7.0, dtype=torch.float64))
        rows.append(len(x))
        seen.append(w.detach() * 1)
        (w.sum() * x.mean()).backward()
    assert rows == [3, 2, 2]
    assert not torch.equal(seen[0], seen[1])
    torch.testing.assert_close(w.grad, torch.full_like(W, 3.0), rtol=1e-12, atol=0)


def test_any_base_steps_with_the_smoothed_gradient():
    net, twin = (problems.linear() for _ in range(2))
    x, y = problems.vectors()
    opt = SmoothOut(torch.optim.Adam(net.parameters(), lr=0.1), a=0.1, seed=4)
    for _ in opt.passes():
        twin.weight.data.copy_(net.weight)
        F.cross_entropy(net(x), y).backward()
    opt.step()
    start = problems.linear().weight.detach()
    F.cross_entropy(twin(x), y).backward()
    # Adam's first step is lr times the sign of the gradient, up to its eps.
    expected = start - 0.1 * twin.weight.grad.sign()
    torch.testing.assert_close(net.weight.detach(), expected, rtol=0, atol=1e-6)


def test_an_unknown_scale_is_refused():
    base = torch.optim.SGD([nn.Parameter(W.clone())], lr=0.1)
    with pytest.raises(SettingError, match="scale must be 'none', 'abs', 'tensor' or"):
        SmoothOut(base, scale="row")


def test_a_step_on_a_device_looks_at_no_value():
    """On the meta device there are none: looking at one raises."""
    w = nn.Parameter(torch.empty(4, 3, device="meta"))
    base = torch.optim.SGD([w], lr=0.1)
    opt = SmoothOut(base, generator=problems.generator())
    for _ in range(2):
        for _ in opt.passes():
            w.grad = torch.empty_like(w)
        opt.step()
    assert opt.steps == 2
