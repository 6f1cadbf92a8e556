"""Alignment, overlap and curvature along directions: closed forms."""

import math

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.linalg.angles import alignment, directional, overlap


def block(columns, seed=0, size=40):
    drawn = torch.randn((size, columns), generator=problems.generator(seed))
    return drawn.double()


def test_squared_cosines_with_orthonormal_directions_add_up_to_the_share():
    basis = torch.linalg.qr(block(5)).Q
    vector = block(1, seed=1)[:, 0]
    inside = basis @ (basis.T @ vector)
    share = float(inside.square().sum() / vector.square().sum())
    found = alignment(vector, 3 * basis)
    assert float(found.square().sum()) == pytest.approx(share, rel=1e-12)
    assert alignment(torch.zeros(40), basis).tolist() == [0.0] * 5


def test_the_overlap_is_the_mean_squared_cosine_of_the_principal_angles():
    first, second = torch.linalg.qr(block(3)).Q, torch.linalg.qr(block(4, seed=1)).Q
    cosines = torch.linalg.svdvals(first.T @ second)
    expected = float(cosines.square().mean())
    mixed = second @ block(4, seed=2, size=4)  # another basis of the same space
    assert overlap(first, mixed) == pytest.approx(expected, rel=1e-9)
    assert overlap(mixed, first) == pytest.approx(expected, rel=1e-9)
    assert overlap(first, first) == pytest.approx(1, abs=1e-12)
    both = torch.cat([first, second], dim=1)
    assert overlap(first, both) == pytest.approx(1, abs=1e-12)


def test_random_subspaces_overlap_by_their_share_of_the_dimensions():
    found = [overlap(block(2, s), block(4, 100 + s)) for s in range(200)]
    assert sum(found) / 200 == pytest.approx(4 / 40, rel=0.1)


def test_curvature_along_a_direction_is_the_second_derivative():
    H = problems.symmetric([5.0, 3.0, -1.0, 0.5])
    angle = torch.tensor(
        [[math.cos(1.0), 2.0], [math.sin(1.0), 0], [0, 1], [0, 1]], dtype=torch.float64
    )
    values, vectors = torch.linalg.eigh(H)
    along = directional(H, vectors @ angle)
    a, b = math.cos(1) ** 2, math.sin(1) ** 2
    expected = [a * values[0] + b * values[1], (4 * values[0] + values[2:].sum()) / 6]
    torch.testing.assert_close(along, torch.stack(expected), rtol=1e-7, atol=0)
    assert directional(H, vectors[:, 3]).item() == pytest.approx(5, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: alignment(torch.ones(3), torch.ones(4, 1)), "directions .D, K."),
        (lambda: overlap(torch.ones(3), torch.ones(3, 1)), "two blocks"),
        (lambda: overlap(torch.ones(3, 2), torch.eye(3)), "linearly independent"),
        (lambda: overlap(torch.eye(3), torch.ones(3, 4)), "linearly independent"),
        (lambda: directional(torch.eye(3), torch.ones(4)), "directions must have"),
    ],
)
def test_shapes_that_do_not_fit_are_one_sentence(call, said):
    with pytest.raises(SettingError, match=said):
        call()
