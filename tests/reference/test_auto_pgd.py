"""Auto-PGD at problems whose largest loss in a ball is known."""

import pytest
import torch

import problems
from steppe.adversarial.auto_pgd import auto_pgd, checkpoints
from steppe.adversarial.balls import Ball
from steppe.errors import SettingError

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
SLOPE = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.1], dtype=torch.float64)
SCALE = torch.tensor([1.0, 0.2, 3.0, 0.7, 0.0], dtype=torch.float64)
RHO = 0.3


def parts(vector):
    """The vector as two tensors, one of them a matrix."""
    return [vector[:4].reshape(2, 2), vector[4:]]


def joined(tensors):
    return torch.cat([t.flatten() for t in tensors])


def quadratic(matrix, slope):
    def evaluate(delta):
        d = joined(delta)
        return slope @ d + d @ matrix @ d / 2, parts(slope + matrix @ d)

    return evaluate


def ascent(matrix, slope, scale=None, share="all", norm="2", **settings):
    ball = Ball(
        like=parts(slope),
        radius=RHO,
        norm=norm,
        share=share,
        scale=None if scale is None else parts(scale),
    )
    source = problems.generator()
    found = auto_pgd(quadratic(matrix, slope), ball, generator=source, **settings)
    return found, joined(found.displacement)


def trust_region(matrix, slope):
    """The largest slope d + d A d / 2 with |d| <= rho, by its secular equation.

    Outside of the hard case d = (mu - A)^-1 slope, with mu above all eigenvalues and
    |d| = rho.
    """
    values, vectors = torch.linalg.eigh(matrix)
    turned = vectors.T @ slope

    def excess(mu):
        return float((turned / (mu - values)).norm()) - RHO

    low, high = max(float(values[-1]), 0.0) + 1e-12, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    d = vectors @ (turned / (low - values))
    return float(slope @ d + d @ matrix @ d / 2)


FLAT = torch.zeros_like(A)


@pytest.mark.parametrize("scale", [None, SCALE])
@pytest.mark.parametrize("norm", ["2", "inf"])
def test_a_line_takes_one_step(norm, scale):
    found, d = ascent(FLAT, SLOPE, scale, norm=norm, steps=1)
    c = torch.ones_like(SLOPE) if scale is None else scale
    dual = (c * SLOPE).norm(p=1 if norm == "inf" else 2)
    assert float(found.losses) == pytest.approx(float(RHO * dual), rel=1e-12)
    assert float(SLOPE @ d) == pytest.approx(float(found.losses), rel=1e-12)
    assert d[4] == 0 or scale is None  # where the scale is 0 nothing moves
    assert found.evaluations == 2


def test_the_direction_of_a_scaled_ball_has_the_scale_twice():
    _, d = ascent(FLAT, SLOPE, SCALE, steps=1)
    expected = RHO * SCALE**2 * SLOPE / (SCALE * SLOPE).norm()
    torch.testing.assert_close(d, expected)


@pytest.mark.parametrize("scale", [torch.ones(5).double(), SCALE])
def test_at_a_minimum_it_finds_the_largest_eigenvalue(scale):
    """Its gradient is zero: the first direction is drawn."""
    found, d = ascent(A, 0 * SLOPE, scale, steps=150)
    scaled = scale[:, None] * A * scale
    expected = RHO**2 / 2 * torch.linalg.eigvalsh(scaled)[-1]
    assert float(found.losses) == pytest.approx(float(expected), rel=1e-6)
    used = scale > 0
    assert (d[used] / scale[used]).norm() <= RHO * (1 + 1e-12)


@pytest.mark.parametrize("scale", [torch.ones(5).double(), SCALE])
def test_off_a_minimum_it_solves_the_trust_region(scale):
    found, _ = ascent(A, SLOPE, scale, steps=100)
    expected = trust_region(scale[:, None] * A * scale, scale * SLOPE)
    assert float(found.losses) == pytest.approx(expected, rel=1e-12)


def test_the_largest_entry_norm_ends_in_a_corner():
    values = torch.tensor([4.0, 3.0, 1.0, 0.5, 0.2]).double()
    found, d = ascent(torch.diag(values), 0 * SLOPE, SCALE, norm="inf")
    expected = RHO**2 / 2 * float((SCALE**2 * values).sum())
    assert float(found.losses) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(d.abs(), RHO * SCALE)


def test_tensors_with_balls_of_their_own_move_in_each():
    found, d = ascent(FLAT, SLOPE, share="tensor", steps=1)
    expected = RHO * sum(part.norm() for part in parts(SLOPE))
    assert float(found.losses) == pytest.approx(float(expected), rel=1e-12)
    assert [float(p.norm()) for p in parts(d)] == pytest.approx([RHO, RHO])


def test_the_best_point_is_kept_and_no_loss_is_below_the_centre():
    found, d = ascent(-A.abs() - 10 * torch.eye(5), 0 * SLOPE, steps=7, restarts=2)
    assert float(found.losses) == 0 == float(found.start)
    assert not d.any()
    assert found.evaluations == 3 * 8
    top, _ = ascent(A, SLOPE, steps=30)
    history = torch.stack(top.history)
    assert len(history) == 31
    assert (history.diff() >= 0).all()
    assert history[-1] == top.losses


def test_a_restart_finds_a_step_that_no_slope_leads_to():
    slope = torch.tensor([-0.05]).double()

    def evaluate(delta):
        (x,) = delta
        return (slope * x + (x > 0.5)).sum(), [slope]

    ball = Ball(like=[slope], radius=1.2)
    alone, both = (
        auto_pgd(evaluate, ball, restarts=r, generator=problems.generator())
        for r in (0, 8)
    )
    assert float(alone.losses) == pytest.approx(0.06)
    assert float(both.losses) > 0.9
    assert 0.5 < float(both.displacement[0]) <= 1.2
    assert both.evaluations == 9 * 21


LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 1.0]]).double()


def samples():
    """Rows of inputs of two linear classes, their labels and the margin slope."""
    x, y = problems.vectors(n=6, shape=(3,))
    return x, y % 2, LOGITS[0] - LOGITS[1]


def margin_loss(x, y, slope):
    """-margin of each sample: the exact loss after an attack is known."""
    sign = torch.where(y == 0, 1.0, -1.0).double()

    def evaluate(delta):
        gradient = -sign[:, None] * slope.expand_as(x)
        return -sign * ((x + delta[0]) @ slope), [gradient]

    return evaluate


@pytest.mark.parametrize(("norm", "dual"), [("2", 2), ("inf", 1)])
def test_each_sample_has_a_ball_of_its_own(norm, dual):
    x, y, slope = samples()
    ball = Ball(like=[x], radius=RHO, norm=norm, share="row")
    found = auto_pgd(margin_loss(x, y, slope), ball, steps=5)
    torch.testing.assert_close(
        found.losses, found.start + RHO * slope.norm(p=dual), rtol=1e-12, atol=0
    )
    moved = torch.linalg.vector_norm(
        found.displacement[0], ord=2 if norm == "2" else torch.inf, dim=1
    )
    torch.testing.assert_close(moved, torch.full((6,), RHO).double())


def test_samples_do_not_see_each_other():
    """A batch has the same steps as each of its samples alone, checkpoints too."""
    source = problems.generator(3)
    curves = torch.randn(6, 4, 4, generator=source).double()
    curves = curves + curves.mT
    slopes = torch.randn(6, 4, generator=source).double()

    def of(rows):
        def evaluate(delta):
            d = delta[0]
            bent = torch.einsum("bij,bj->bi", curves[rows], d)
            return (slopes[rows] * d + bent * d / 2).sum(1), [slopes[rows] + bent]

        ball = Ball(like=[slopes[rows]], radius=RHO, share="row")
        return auto_pgd(evaluate, ball, steps=40)

    together = of(slice(None))
    for row in range(6):
        alone = of(slice(row, row + 1))
        torch.testing.assert_close(alone.losses, together.losses[row : row + 1])
        expected = trust_region(curves[row], slopes[row])
        assert float(alone.losses) == pytest.approx(expected, rel=1e-9)


def test_bounds_hold_and_cut_the_ball():
    x, y, slope = samples()
    x = x.clamp(-0.1, 0.1)
    ball = Ball(
        like=[x], radius=RHO, norm="inf", share="row", low=[-0.1 - x], high=[0.1 - x]
    )
    found = auto_pgd(margin_loss(x, y, slope), ball, steps=5)
    inside = x + found.displacement[0]
    assert inside.abs().max() <= 0.1 + 1e-15
    sign = torch.where(y == 0, 1.0, -1.0).double()
    expected = -sign * (inside.sign() * 0.1 @ slope)
    torch.testing.assert_close(found.losses, expected)
    torch.testing.assert_close(found.losses, 0.1 * slope.norm(p=1).expand(6))


def test_bounds_of_a_scaled_ball_are_those_of_the_displacement():
    ball = Ball(
        like=[SLOPE],
        radius=RHO,
        norm="inf",
        scale=[SCALE],
        low=[torch.full_like(SLOPE, -0.1)],
        high=[torch.full_like(SLOPE, 0.05)],
    )
    found = auto_pgd(lambda d: (SLOPE @ d[0], [SLOPE]), ball, steps=3)
    expected = (RHO * SCALE * SLOPE.sign()).clamp(-0.1, 0.05)
    torch.testing.assert_close(found.displacement[0], expected)


@pytest.mark.parametrize("share", ["all", "tensor", "row"])
@pytest.mark.parametrize("norm", ["2", "inf"])
def test_random_points_lie_in_the_ball(norm, share):
    like = [torch.zeros(4, 3), torch.zeros(4, 2, 2)]
    ball = Ball(like=like, radius=RHO, norm=norm, share=share)
    point = ball.random(problems.generator())
    assert joined(point).abs().max() <= RHO
    if norm == "2":
        norms = {
            "all": joined(point).norm(),
            "tensor": torch.stack([t.norm() for t in point]),
            "row": torch.cat([t.flatten(1) for t in point], 1).norm(dim=1),
        }[share]
        assert (norms <= RHO + 1e-6).all()
        assert (norms > 0).all()
        assert share == "all" or len(norms.unique()) == len(norms)


def test_a_gradient_that_is_not_finite_moves_nothing():
    def evaluate(delta):
        (d,) = delta
        bad = torch.tensor([torch.nan, 1.0]).double()
        return d[1], [bad]

    ball = Ball(like=[torch.zeros(2).double()], radius=RHO)
    found = auto_pgd(evaluate, ball, steps=2)
    torch.testing.assert_close(found.displacement[0], torch.tensor([0.0, RHO]).double())


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
def test_checkpoints_are_those_of_the_paper(steps):
    shares = [0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99]
    exact = [-(-round(100 * s) * steps // 100) for s in shares]  # rounded up
    assert checkpoints(steps) == sorted(set(exact))


def test_wrong_settings_are_one_sentence():
    like = [torch.zeros(3)]
    for wrong, match in (
        ({"radius": 0.0}, "radius must be"),
        ({"radius": 1.0, "norm": "1"}, "norm must be '2' or 'inf'"),
        ({"radius": 1.0, "share": "batch"}, "share must be"),
        ({"radius": 1.0, "low": [torch.ones(3)]}, "leave out the centre"),
    ):
        with pytest.raises(SettingError, match=match):
            Ball(like=like, **wrong)
    ball = Ball(like=like, radius=1.0)
    with pytest.raises(SettingError, match="steps must be"):
        auto_pgd(lambda d: (d[0].sum(), d), ball, steps=0)
    with pytest.raises(SettingError, match="losses must be of shape"):
        auto_pgd(lambda d: (d[0], d), ball)


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_gradients_whose_squares_underflow_have_a_direction(norm):
    """As those of samples that a network in float32 is sure of."""
    slope = torch.tensor([[3.0, -4.0], [3e-25, -4e-25]])
    ball = Ball(like=[slope], radius=0.5, norm=norm, share="row")
    (way,) = ball.direction([slope], lambda: [torch.full_like(slope, torch.nan)])
    expected = torch.tensor([0.6, -0.8]) if norm == "2" else torch.tensor([1.0, -1.0])
    torch.testing.assert_close(way, expected.expand(2, 2))
