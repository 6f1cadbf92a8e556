"""SAM and ASAM against their equations, worked by hand on quadratics."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from steppe import ASAM, SAM
from steppe.errors import SettingError

H = torch.diag(torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64))
START = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)


def step(opt: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    for _ in opt.passes():
        loss().backward()
    opt.step()


def quadratic(w: Tensor) -> Tensor:
    return w @ H @ w / 2


def test_one_step_on_a_quadratic_is_equations_2_and_3():
    w = nn.Parameter(START.clone())
    step(SAM(torch.optim.SGD([w], lr=0.1), rho=0.05), lambda: quadratic(w))
    g = H @ START
    expected = START - 0.1 * H @ (START + 0.05 * g / g.norm())
    torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=0)


def test_the_perturbation_has_length_rho_over_all_tensors_together():
    a, b = nn.Parameter(START[:1].clone()), nn.Parameter(START[1:].clone())
    before = torch.cat([a, b]).detach().clone()
    opt = SAM(torch.optim.SGD([a, b], lr=0.1), rho=0.7)
    lengths = []
    for _ in opt.passes():
        joined = torch.cat([a, b])
        lengths.append((joined - before).norm().item())
        quadratic(joined).backward()
    torch.testing.assert_close(lengths, [0.0, 0.7], rtol=1e-10, atol=1e-12)


def test_weight_decay_acts_at_the_unperturbed_weights():
    w = nn.Parameter(START.clone())
    base = torch.optim.SGD([w], lr=0.1, weight_decay=0.5)
    step(SAM(base, rho=0.05), lambda: quadratic(w))
    g = H @ START
    uphill = H @ (START + 0.05 * g / g.norm())
    expected = START - 0.1 * (uphill + 0.5 * START)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=0)


def test_a_zero_gradient_gives_a_finite_step():
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    step(SAM(torch.optim.SGD([w], lr=0.1), rho=0.05), lambda: quadratic(w))
    assert torch.equal(w.detach(), torch.zeros(3, dtype=torch.float64))


def test_parameters_without_a_gradient_are_left_alone():
    w, idle = nn.Parameter(START.clone()), nn.Parameter(START.clone())
    opt = SAM(torch.optim.SGD([w, idle], lr=0.1), rho=0.05)
    for _ in opt.passes():
        assert torch.equal(idle.detach(), START)
        quadratic(w).backward()
    opt.step()
    assert torch.equal(idle.detach(), START)
    assert not torch.equal(w.detach(), START)


def test_a_group_radius_scales_its_part_of_the_joint_direction():
    a, b = nn.Parameter(START[:1].clone()), nn.Parameter(START[1:].clone())
    groups = [{"params": [a], "rho": 0.1}, {"params": [b]}]
    opt = SAM(torch.optim.SGD(groups, lr=0.1), rho=0.5)
    g = H @ START
    places = []
    for _ in opt.passes():
        places.append(torch.cat([a, b]).detach())
        quadratic(torch.cat([a, b])).backward()
    radius = torch.tensor([0.1, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(places[1] - START, radius * g / g.norm())


def test_closure_returns_the_loss_at_the_unperturbed_weights():
    w = nn.Parameter(START.clone())
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)

    def closure():
        loss = quadratic(w)
        loss.backward()
        return loss

    assert opt.step(closure).item() == quadratic(START).item()


def test_asam_moves_by_equation_7():
    matrix = START.view(3, 1)
    w = nn.Parameter(matrix.clone())
    bias = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    opt = ASAM(torch.optim.SGD([w, bias], lr=0.1), rho=0.3, eta=0.01)

    def loss() -> Tensor:
        return quadratic(w.squeeze(1)) + 3 * bias.sum()

    g = torch.cat([H @ START, torch.tensor([3.0], dtype=torch.float64)])
    t = torch.cat([START.abs() + 0.01, torch.ones(1, dtype=torch.float64)])
    expected = 0.3 * t**2 * g / (t * g).norm()
    moves = []
    for _ in opt.passes():
        moves.append(torch.cat([w.squeeze(1) - START, bias - 0.5]).detach())
        loss().backward()
    torch.testing.assert_close(moves[1], expected, rtol=1e-10, atol=1e-14)


def test_asam_perturbs_rescaled_relu_networks_to_the_same_function():
    torch.manual_seed(0)
    x, y = torch.randn(20, 4).double(), torch.randint(2, (20,))
    seen = []
    for c in (1.0, 8.0):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)
        ).double()
        with torch.no_grad():
            net[0].weight.mul_(c)
            net[2].weight.div_(c)
        opt = ASAM(torch.optim.SGD(net.parameters(), lr=0.1), rho=0.5, eta=0.0)
        for index in opt.passes():
            out = net(x)
            nn.functional.cross_entropy(out, y).backward()
            if index == 1:
                seen.append(out.detach())
    torch.testing.assert_close(*seen, rtol=1e-9, atol=1e-9)


def ascended(steps: int, rho: float) -> Tensor:
    """Where n steps of rho / n along the unit gradient of the quadratic lead."""
    place = START.clone()
    for _ in range(steps):
        g = H @ place
        place = place + rho / steps * g / g.norm()
    return place


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_several_ascent_steps_follow_the_gradient_uphill(steps):
    w = nn.Parameter(START.clone())
    opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.8, ascent_steps=steps)
    seen = []
    for _ in opt.passes():
        seen.append(w.detach().clone())
        quadratic(w).backward()
    opt.step()
    assert len(seen) == steps + 1
    torch.testing.assert_close(seen[-1], ascended(steps, 0.8), rtol=1e-10, atol=0)
    expected = START - 0.1 * H @ ascended(steps, 0.8)
    torch.testing.assert_close(w.detach(), expected, rtol=1e-10, atol=0)


def test_ascent_steps_on_a_round_quadratic_are_one_straight_way():
    """There the gradient points along w, so that n steps are one: w (1 + rho / |w|)."""
    for steps in (1, 3, 7):
        w = nn.Parameter(START.clone())
        opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.8, ascent_steps=steps)
        step(opt, lambda w=w: 2 * (w**2).sum())
        expected = START * (1 - 0.1 * 4 * (1 + 0.8 / START.norm()))
        torch.testing.assert_close(w.detach(), expected, rtol=1e-10, atol=0)


def test_ascent_steps_of_groups_have_radii_of_their_own():
    a, b = nn.Parameter(START[:1].clone()), nn.Parameter(START[1:].clone())
    groups = [{"params": [a], "rho": 0.2}, {"params": [b]}]
    opt = SAM(torch.optim.SGD(groups, lr=0.1), rho=0.6, ascent_steps=2)
    radius = torch.tensor([0.2, 0.6, 0.6], dtype=torch.float64)
    place, seen = START.clone(), []
    for _ in range(2):
        g = H @ place
        place = place + radius / 2 * g / g.norm()
    for _ in opt.passes():
        joined = torch.cat([a, b])
        seen.append(joined.detach())
        quadratic(joined).backward()
    torch.testing.assert_close(seen[-1], place, rtol=1e-10, atol=0)


def test_the_perturbation_does_not_depend_on_the_scale_of_the_loss():
    seen = []
    for scale in (1.0, 1e-6, 1e6):
        w = nn.Parameter(START.clone())
        opt = SAM(torch.optim.SGD([w], lr=0.1), rho=0.5)
        for _ in opt.passes():
            place = w.detach().clone()
            (quadratic(w) * scale).backward()
        seen.append(place)
    torch.testing.assert_close(seen[1], seen[0], rtol=1e-6, atol=0)  # 1e-12 is added
    torch.testing.assert_close(seen[2], seen[0], rtol=1e-11, atol=0)


def test_no_ascent_step_is_refused():
    w = nn.Parameter(START.clone())
    with pytest.raises(SettingError, match="ascent_steps must be >= 1, got 0"):
        SAM(torch.optim.SGD([w], lr=0.1), ascent_steps=0)
