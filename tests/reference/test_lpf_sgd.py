"""LPF-SGD against the closed forms of the smoothed gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe import LPFSGD, SmoothOut
from steppe.errors import SettingError, UsageError

W = torch.tensor([[3.0, 4.0], [0.6, -0.8]], dtype=torch.float64)  # row norms 5 and 1


def gradient(opt: LPFSGD, loss: Callable[[], Tensor]) -> None:
    for _ in opt.passes():
        loss().backward()


def test_the_gradient_of_a_quadratic_is_taken_at_the_noisy_weights():
    w = nn.Parameter(W.clone())
    opt = LPFSGD(torch.optim.SGD([w], lr=0.1), gamma=0.1, seed=3)
    for _ in opt.passes():
        noisy = w.detach().clone()
        (w**2).sum().backward()
    torch.testing.assert_close(w.grad, 2 * noisy, rtol=1e-12, atol=0)
    assert not torch.equal(noisy, W)
    assert torch.equal(w.detach(), W)


def test_every_share_begins_at_the_weights_with_the_next_draw():
    w = nn.Parameter(W.clone())
    base = torch.optim.Adam([w], lr=0.1)  # LPF-Adam
    opt = LPFSGD(base, gamma=0.1, micro_batches=3, seed=3)
    source = torch.Generator().manual_seed(3)
    norms = torch.tensor([[5.0], [1.0]], dtype=torch.float64)
    mean = torch.zeros_like(W)
    for _ in opt.passes():
        drawn = torch.randn(2, 2, generator=source, dtype=torch.float64)
        noisy = W + 0.1 * norms * drawn
        torch.testing.assert_close(w.detach(), noisy, rtol=1e-12, atol=0)
        mean += noisy / 3
        ((w**2).sum() / 2).backward()
    torch.testing.assert_close(w.grad, mean, rtol=1e-12, atol=0)
    assert torch.equal(w.detach(), W)
    opt.step()  # Adam's first step is lr times the sign of the gradient, up to its eps
    expected = W - 0.1 * mean.sign()
    torch.testing.assert_close(w.detach(), expected, rtol=0, atol=1e-6)


def test_noise_is_gaussian_with_gamma_times_the_row_norm():
    count = 50000
    rows = torch.tensor([5.0, 1.0], dtype=torch.float64)
    w = nn.Parameter(rows[:, None].repeat(1, count) / count**0.5)  # row norms 5 and 1
    bias = nn.Parameter(torch.full((count,), 10.0).double() / count**0.5)  # norm 10
    opt = LPFSGD(torch.optim.SGD([w, bias], lr=0.1), gamma=0.1, seed=0)
    before = torch.cat([w, bias[None]]).detach().clone()
    for _ in opt.passes():
        noise = torch.cat([w, bias[None]]).detach() - before
        (w.sum() + bias.sum()).backward()
    expected = torch.tensor([0.5, 0.1, 1.0], dtype=torch.float64)
    # The relative standard error of a standard deviation is 1 / sqrt(2 n).
    torch.testing.assert_close(
        noise.std(1), expected, rtol=4 / (2 * count) ** 0.5, atol=0
    )
    assert (noise.mean(1).abs() < 4 * expected / count**0.5).all()
    kurtosis = (noise**4).mean(1) / noise.var(1) ** 2  # 3 +- sqrt(24 / n)
    torch.testing.assert_close(
        kurtosis, torch.full((3,), 3.0).double(), atol=0.1, rtol=0
    )


def test_the_mean_gradient_of_a_quartic_is_that_of_the_smoothed_loss():
    values, count = W.flatten(), 50000
    w = nn.Parameter(values[:, None].repeat(1, count))
    gamma = 0.2 / count**0.5  # rows have norm sqrt(n) |w|
    opt = LPFSGD(torch.optim.SGD([w], lr=0.1), gamma=gamma, micro_batches=2, seed=1)
    gradient(opt, lambda: (w**4).sum() / 4)
    expected = values**3 + 3 * values * (0.2 * values) ** 2
    stderr = w.grad.std(1) / count**0.5
    assert ((w.grad.mean(1) - expected).abs() < 4 * stderr).all()
    assert ((expected - values**3).abs() > 10 * stderr).all()  # noise is there


def test_rows_of_uneven_shares_weigh_alike():
    torch.manual_seed(0)
    x, y = torch.randn(7, 4).double(), torch.randint(3, (7,))
    net = nn.Linear(4, 3).double()
    F.cross_entropy(net(x), y).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    opt = LPFSGD(torch.optim.SGD(net.parameters(), lr=0.1), gamma=0.0, micro_batches=4)
    sizes = []
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        sizes.append(len(xs))
        F.cross_entropy(net(xs), ys).backward()
    assert sizes == [2, 2, 2, 1]
    for p, g in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-15)


def test_a_batch_shorter_than_the_number_of_shares_has_one_share_per_row():
    net = nn.Linear(4, 3).double()
    x, y = torch.randn(3, 4).double(), torch.tensor([0, 1, 2])
    opt = LPFSGD(torch.optim.SGD(net.parameters(), lr=0.1), gamma=0.0, micro_batches=8)
    sizes = []
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        sizes.append(len(xs))
        F.cross_entropy(net(xs), ys).backward()
    seen = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()
    assert sizes == [1, 1, 1]
    for p, g in zip(net.parameters(), seen, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-15)


def test_a_closure_that_clears_gradients_of_the_model_loses_no_share():
    results = []
    for clear in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(4, 3).double()
        x, y = torch.randn(8, 4).double(), torch.randint(3, (8,))
        opt = LPFSGD(torch.optim.SGD(net.parameters(), lr=0.1), micro_batches=4)
        for _ in opt.passes():
            if clear:
                net.zero_grad()
            xs, ys = opt.take(x, y)
            F.cross_entropy(net(xs), ys).backward()
        results.append(net.weight.grad.clone())
    torch.testing.assert_close(*results, rtol=1e-14, atol=0)


def test_shares_of_nested_batches_are_taken_along_the_rows():
    net = nn.Linear(4, 3).double()
    batch = {"x": torch.randn(6, 4).double(), "y": [torch.arange(6) % 3]}
    opt = LPFSGD(torch.optim.SGD(net.parameters(), lr=0.1), micro_batches=3)
    seen = []
    for _ in opt.passes():
        part = opt.take(batch)
        seen.append(part["y"][0].tolist())
        F.cross_entropy(net(part["x"]), part["y"][0]).backward()
    assert seen == [[0, 1], [2, 0], [1, 2]]


def test_the_closure_form_returns_the_mean_loss_over_the_shares():
    w = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    opt = LPFSGD(torch.optim.SGD([w], lr=0.0), gamma=0.0, micro_batches=2)
    x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)

    def closure():
        loss = (opt.take(x) * w).mean()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 3.0


def test_misuse_is_one_clear_sentence():
    w = nn.Parameter(W.clone())
    base = torch.optim.SGD([w], lr=0.1)
    with pytest.raises(SettingError, match="micro_batches must be >= 1, got 0"):
        LPFSGD(base, micro_batches=0)
    with pytest.raises(SettingError, match="antithetic must be True or False, got 1"):
        LPFSGD(base, antithetic=1)
    for method in (LPFSGD, SmoothOut):  # which have no pair to draw
        with pytest.raises(SettingError, match="micro_batches to 2 or more, or leave"):
            method(base, antithetic=True)
    opt = LPFSGD(base, micro_batches=2)
    with pytest.raises(UsageError, match="inside a passes"):
        opt.take(W)
    next(loop := opt.passes())
    with pytest.raises(UsageError, match="without rows"):
        opt.take(torch.zeros(0, 3))
    loop.close()


@pytest.mark.parametrize("micro_batches", [2, 5])
def test_antithetic_draws_come_in_pairs_around_the_weights(micro_batches):
    seen = {}
    for antithetic in (False, True):
        w = nn.Parameter(W.clone())
        base = torch.optim.SGD([w], lr=0.1)
        settings = {"micro_batches": micro_batches, "antithetic": antithetic}
        opt = LPFSGD(base, gamma=0.1, seed=3, **settings)
        seen[antithetic] = []
        for _ in opt.passes():
            seen[antithetic].append(w.detach() - W)
            (w**2).sum().backward()
        assert torch.equal(w.detach(), W)
    pairs, alone = seen[True], seen[False]
    for number, draw in enumerate(pairs):
        sign = (-1) ** (number % 2)
        expected = sign * alone[number // 2]
        torch.testing.assert_close(draw, expected, rtol=0, atol=1e-15)
    assert not torch.equal(alone[1], -alone[0])


def test_antithetic_draws_take_the_linear_part_of_the_noise_out_of_the_gradient():
    w = nn.Parameter(W.clone())
    base = torch.optim.SGD([w], lr=0.1)
    opt = LPFSGD(base, gamma=0.1, micro_batches=8, antithetic=True)
    gradient(opt, lambda: (w**2).sum() / 2)
    torch.testing.assert_close(w.grad, W, rtol=1e-12, atol=1e-14)


@pytest.mark.filterwarnings("ignore:parameters in bfloat16")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_other_draw_of_a_pair_is_exact_to_rounding(dtype):
    w = nn.Parameter(torch.linspace(-3, 3, 999, dtype=dtype))
    start = w.detach().clone()
    base = torch.optim.SGD([w], lr=0.1)
    opt = LPFSGD(base, gamma=0.01, micro_batches=2, antithetic=True)
    moved = []
    for _ in opt.passes():
        moved.append(w.detach() - start)
        w.sum().backward()
    size = torch.finfo(dtype).eps * (start.abs() + moved[0].abs()).max()
    torch.testing.assert_close(moved[1], -moved[0], rtol=0, atol=float(size))
    assert moved[0].abs().max() > 0
