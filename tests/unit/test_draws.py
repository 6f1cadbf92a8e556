"""The distribution of noise, and the independence of draws that lie side by side."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.special import ndtr

import problems
from steppe.noise import Noise, gaussian_noise, uniform_noise

COUNTS = [
    pytest.param(2 * 10**5, id="short"),
    pytest.param(10**7, id="long", marks=pytest.mark.slow),
]


def gaussian(params: list[Tensor], seed: int = 0) -> Noise:
    return gaussian_noise(params, 1.0, problems.generator(seed))


def distance(values: Tensor, shares: Tensor) -> float:
    """Largest distance of two distribution functions, of Kolmogorov and Smirnov.

    Args:
        values: shape (N,), sorted.
        shares: the expected distribution function at the values, shape (N,).
    """
    steps = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
    return float(max((shares - steps[:-1]).max(), (steps[1:] - shares).max()))


@pytest.mark.parametrize("count", COUNTS)
def test_gaussian_draws_are_normal(count):
    # A row of 97 numbers is no multiple of what torch draws at once.
    (drawn,) = gaussian([torch.zeros(count // 97, 97)]).draw()
    z = drawn.double().flatten().sort().values
    error = 1 / math.sqrt(len(z))
    # The distance of Kolmogorov is above 1.63 errors once in a hundred seeds.
    assert distance(z, ndtr(z)) < 1.63 * error
    assert abs(z.mean()) < 3 * error
    assert abs(z.var() - 1) < 3 * math.sqrt(2) * error
    assert abs((z**3).mean()) < 3 * math.sqrt(15) * error
    assert abs((z**4).mean() - 3) < 3 * math.sqrt(96) * error


@pytest.mark.parametrize("count", COUNTS)
def test_uniform_draws_are_uniform(count):
    params = [torch.zeros(count // 97, 97)]
    (drawn,) = uniform_noise(params, 1.0, "none", problems.generator()).draw()
    u = drawn.double().flatten().sort().values
    error = 1 / math.sqrt(len(u))
    assert distance(u, (u + 1) / 2) < 1.63 * error
    assert abs(u.mean()) < 3 * math.sqrt(1 / 3) * error
    assert abs(u.var() - 1 / 3) < 3 * math.sqrt(4 / 45) * error


@pytest.mark.parametrize("count", COUNTS)
def test_draws_that_lie_side_by_side_are_uncorrelated(count):
    params = [torch.zeros(count), torch.zeros(count)]
    noise = gaussian(params)
    first, of_next_parameter = noise.draw()
    others = {
        "parameter": of_next_parameter,
        "draw": noise.draw()[0],
        "step": gaussian_noise(params, 1.0, noise.generator).draw()[0],
        "seed": gaussian(params, seed=1).draw()[0],
        "entry": first.roll(1),
    }
    error = 1 / math.sqrt(count)
    for name, other in others.items():
        # Products of normal numbers and of their squares less one have these errors.
        assert abs((first * other).mean()) < 3.5 * error, name
        squares = (first.square() - 1) * (other.square() - 1)
        assert abs(squares.mean()) < 3.5 * 2 * error, name


def test_blocks_have_the_numbers_that_torch_draws_for_whole_tensors():
    shapes = [(3001, 97), (5,), (200003,), (2, 70001)]
    source = problems.generator(3)
    expected = [torch.randn(shape, generator=source) for shape in shapes]
    drawn = gaussian([torch.zeros(shape) for shape in shapes], seed=3).draw()
    for once, cut in zip(expected, drawn, strict=True):
        assert torch.equal(once, cut)


def test_a_generator_goes_on_where_its_state_was_saved():
    params = [torch.zeros(301, 501), torch.zeros(7)]
    noise = gaussian(params)
    noise.draw()
    state = noise.generator.get_state()
    expected = noise.draw()
    later = gaussian(params, seed=5)
    later.generator.set_state(state)
    for a, b in zip(expected, later.draw(), strict=True):
        assert torch.equal(a, b)
