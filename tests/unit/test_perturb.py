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
    noise = [filter_noise([v], 0.1, problems.generator())[0] for v in (w, relaid(w))]
    torch.testing.assert_close(*noise)


def test_noise_has_the_scale_times_the_filter_norm_as_its_deviation():
    w = torch.ones((2, 20000)) * torch.tensor([[1.0], [3.0]])
    bias = torch.ones(10000)
    noise = filter_noise([w, bias], [0.5, 0.01], problems.generator())
    deviations = noise[0].std(dim=1) / w.norm(dim=1)
    # Deviations of n draws are known to 1 / sqrt(2 n): 0.5 % of 0.5, 0.7 % of 0.01.
    torch.testing.assert_close(deviations, torch.full((2,), 0.5), rtol=0.02, atol=0)
    assert float(noise[1].std() / bias.norm()) == pytest.approx(0.01, rel=0.03)


def test_noise_is_the_generators_draw_times_deviation():
    source = problems.generator(3)
    drawn = torch.randn(MATRIX.shape, generator=source)
    scaled = filter_noise([MATRIX], 0.2, problems.generator(3))[0]
    norms = torch.tensor([[5.0], [0.0], [2.0]])
    torch.testing.assert_close(scaled, 0.2 * norms * drawn)
    plain = gaussian_noise([MATRIX], 0.2, problems.generator(3))[0]
    torch.testing.assert_close(plain, 0.2 * drawn)


@EVERY_KIND
def test_noise_takes_nothing_from_the_global_generator(noise):
    before = torch.get_rng_state()
    first = noise([MATRIX], 1.0, problems.generator())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first[0], noise([MATRIX], 1.0, problems.generator())[0])


@EVERY_KIND
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_noise_of_parameters_needs_no_gradient_and_keeps_dtype_and_shape(noise, dtype):
    params = [
        torch.nn.Parameter(kernel().to(dtype)),
        torch.nn.Parameter(torch.ones(())),
    ]
    found = noise(params, 0.1, None)
    assert [(n.shape, n.dtype) for n in found] == [(p.shape, p.dtype) for p in params]
    assert not any(n.requires_grad for n in found)
    assert all(n.isfinite().all() for n in found)


@EVERY_KIND
def test_no_parameters_have_no_noise(noise):
    assert noise([], 0.1, None) == []


def test_uniform_noise_fills_its_interval_evenly():
    width = 0.5
    (noise,) = uniform_noise(
        [torch.zeros(40000, dtype=torch.float64)], width, "none", problems.generator()
    )
    assert -width <= noise.min() < -0.99 * width
    assert 0.99 * width < noise.max() <= width
    counts = noise.histc(10, -width, width)
    # Chi-squared with 9 degrees of freedom: above 27.9 once in a thousand seeds.
    assert ((counts - 4000) ** 2 / 4000).sum() < 27.9


def test_uniform_noise_of_a_filter_has_a_share_of_its_length():
    w, bias = kernel(5), torch.tensor([3.0, 4.0])
    noise = uniform_noise([w, bias], [0.1, 0.2], "filter", problems.generator())
    torch.testing.assert_close(_rows(noise[0]), 0.1 * _rows(w))
    torch.testing.assert_close(noise[1].norm(), torch.tensor(1.0))
    whole = uniform_noise([w], 0.1, "tensor", problems.generator())[0]
    torch.testing.assert_close(whole.norm(), 0.1 * w.norm())


def _rows(w):
    return w.reshape(len(w), -1).norm(dim=1)


@EVERY_KIND
def test_one_scale_per_parameter_is_asked_for(noise):
    with pytest.raises(SettingError, match="1 scales given for 2 parameters"):
        noise([MATRIX, MATRIX], [0.1], None)
