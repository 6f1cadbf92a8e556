"""Noise on parameters: which norm, which shape, which draw."""

import pytest
import torch

import problems
from steppe.errors import SettingError
from steppe.noise import (
    filter_noise,
    filter_scales,
    gaussian_noise,
    uniform_noise,
)

MATRIX = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])


SCALES = ("none", "abs", "tensor", "filter")


def uniform(scale):
    """A function like `gaussian_noise`."""

    def noise(params, a, generator):
        return uniform_noise(params, a, scale, generator)

    return noise


def drawn(noise, params, scale, generator):
    """One draw, as new tensors."""
    return noise(params, scale, generator).draw()


KINDS = (filter_noise, gaussian_noise, *map(uniform, SCALES))
NAMES = ("filter_noise", "gaussian_noise", *SCALES)
EVERY_KIND = pytest.mark.parametrize("noise", KINDS, ids=NAMES)


def kernel(n=2):
    return torch.randn((n, 3, 2, 2), generator=problems.generator())


def test_a_filter_is_a_row_of_a_matrix_and_a_vector_as_a_whole():
    scales = filter_scales([MATRIX, torch.tensor([3.0, 4.0]), torch.tensor(-2.0)])
    assert scales[0].tolist() == [[5.0], [0.0], [2.0]]
    assert [float(s) for s in scales[1:]] == [5.0, 2.0]
    assert [s.shape for s in scales[1:]] == [(), ()]


@pytest.mark.parametrize(
    "relaid",
    [
        lambda w: w.to(memory_format=torch.channels_last),
        lambda w: w.repeat_interleave(2, dim=2)[:, :, ::2],
        lambda w: w.transpose(2, 3).contiguous().transpose(2, 3),
    ],
)
def test_the_memory_layout_of_a_kernel_changes_nothing(relaid):
    w = kernel()
    expected = w.reshape(2, -1).norm(dim=1).reshape(2, 1, 1, 1)
    assert torch.equal(relaid(w), w)
    torch.testing.assert_close(filter_scales([relaid(w)])[0], expected)
    noise = [
        drawn(filter_noise, [v], 0.1, problems.generator())[0] for v in (w, relaid(w))
    ]
    torch.testing.assert_close(*noise)


def test_noise_has_the_scale_times_the_filter_norm_as_its_deviation():
    w = torch.ones((2, 20000)) * torch.tensor([[1.0], [3.0]])
    bias = torch.ones(10000)
    noise = drawn(filter_noise, [w, bias], [0.5, 0.01], problems.generator())
    deviations = noise[0].std(dim=1) / w.norm(dim=1)
    # Deviations of n draws are known to 1 / sqrt(2 n): 0.5 % of 0.5, 0.7 % of 0.01.
    torch.testing.assert_close(deviations, torch.full((2,), 0.5), rtol=0.02, atol=0)
    assert float(noise[1].std() / bias.norm()) == pytest.approx(0.01, rel=0.03)


def test_noise_is_the_generators_draw_times_deviation():
    source = problems.generator(3)
    normal = torch.randn(MATRIX.shape, generator=source)
    scaled = drawn(filter_noise, [MATRIX], 0.2, problems.generator(3))[0]
    norms = torch.tensor([[5.0], [0.0], [2.0]])
    torch.testing.assert_close(scaled, 0.2 * norms * normal)
    plain = drawn(gaussian_noise, [MATRIX], 0.2, problems.generator(3))[0]
    torch.testing.assert_close(plain, 0.2 * normal)


@EVERY_KIND
def test_noise_takes_nothing_from_the_global_generator(noise):
    before = torch.get_rng_state()
    first = drawn(noise, [MATRIX], 1.0, problems.generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], drawn(noise, [MATRIX], 1.0, problems.generator())[0])


@EVERY_KIND
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_noise_of_parameters_needs_no_gradient_and_keeps_dtype_and_shape(noise, dtype):
    params = [
        torch.nn.Parameter(kernel().to(dtype)),
        torch.nn.Parameter(torch.ones(())),
    ]
    found = drawn(noise, params, 0.1, None)
    assert [(n.shape, n.dtype) for n in found] == [(p.shape, p.dtype) for p in params]
    assert not any(n.requires_grad for n in found)
    assert all(n.isfinite().all() for n in found)


@EVERY_KIND
def test_no_parameters_have_no_noise(noise):
    assert drawn(noise, [], 0.1, None) == []


def test_uniform_noise_fills_its_interval_evenly():
    width = 0.5
    zeros = [torch.zeros(40000, dtype=torch.float64)]
    (noise,) = drawn(uniform("none"), zeros, width, problems.generator())
    assert -width <= noise.min() < -0.99 * width
    assert 0.99 * width < noise.max() <= width
    counts = noise.histc(10, -width, width)
    # Chi-squared with 9 degrees of freedom: above 27.9 once in a thousand seeds.
    assert ((counts - 4000) ** 2 / 4000).sum() < 27.9


def test_uniform_noise_of_a_filter_has_a_share_of_its_length():
    w, bias = kernel(5), torch.tensor([3.0, 4.0])
    noise = drawn(uniform("filter"), [w, bias], [0.1, 0.2], problems.generator())
    torch.testing.assert_close(_rows(noise[0]), 0.1 * _rows(w))
    torch.testing.assert_close(noise[1].norm(), torch.tensor(1.0))
    whole = drawn(uniform("tensor"), [w], 0.1, problems.generator())[0]
    torch.testing.assert_close(whole.norm(), 0.1 * w.norm())


def _rows(w):
    return w.reshape(len(w), -1).norm(dim=1)


@EVERY_KIND
def test_one_scale_per_parameter_is_asked_for(noise):
    with pytest.raises(SettingError, match="1 scales given for 2 parameters"):
        noise([MATRIX, MATRIX], [0.1], None)


# A matrix whose rows are no multiple of the numbers that torch draws at once, a kernel,
# vectors below and above a small block, and a number.
SHAPES = ((37, 21), (8, 3, 3, 3), (5,), (203,), ())


@EVERY_KIND
@pytest.mark.parametrize("block", [1, 16, 100, 500])
def test_blocks_change_no_number(monkeypatch, noise, block):
    params = [torch.randn(s, generator=problems.generator()) for s in SHAPES]
    whole = drawn(noise, params, 0.1, problems.generator(3))
    monkeypatch.setattr("steppe.noise.BLOCK", block)
    for once, cut in zip(
        whole, drawn(noise, params, 0.1, problems.generator(3)), strict=True
    ):
        assert torch.equal(once, cut)


@EVERY_KIND
def test_parameters_are_put_where_the_draw_says(monkeypatch, noise):
    monkeypatch.setattr("steppe.noise.BLOCK", 100)
    centres = [torch.randn(s, generator=problems.generator()) for s in SHAPES]
    params = [torch.nn.Parameter(torch.full_like(c, 7.0)) for c in centres]
    expected = drawn(noise, centres, 0.1, problems.generator(3))
    versions = [p._version for p in params]
    noise(centres, 0.1, problems.generator(3)).put_(params, centres)
    for p, centre, n, version in zip(params, centres, expected, versions, strict=True):
        assert torch.equal(p, centre + n)
        assert p.requires_grad
        assert p._version > version
