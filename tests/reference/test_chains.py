"""Diagnostics of chains, against another library and closed forms."""

import math

import pytest
import torch

import problems
from steppe.errors import DataError
from steppe.linalg.chains import (
    effective_samples,
    error_of_chains,
    in_halves,
    rank_rhat,
    split_rhat,
)

# Chains, draws, coefficient, shift per chain; then R-hat of ranks, R-hat of halves,
# effective samples of the mean and its error by arviz 0.19 (rhat, rhat with
# method="split", ess with method="mean", mcse).
ARVIZ = [
    (
        4,
        200,
        0.5,
        0.0,
        1.0046341692247778,
        1.0029637454000129,
        418.8395951845744,
        0.13296279211947823,
    ),
    (
        2,
        101,
        0.9,
        0.0,
        1.2250313331847293,
        1.0293321896748364,
        37.60003374504824,
        4.199296871920298,
    ),
    (
        4,
        500,
        -0.4,
        0.0,
        1.0000278443934238,
        0.9987152394221556,
        2575.6816648474855,
        0.04799272280296882,
    ),
    (
        3,
        64,
        0.2,
        1.0,
        1.3174065977027056,
        1.159475989311822,
        16.2946763477509,
        1.4068485626978673,
    ),
    (
        5,
        2000,
        0.97,
        0.3,
        1.0211108437087324,
        1.0027204904791485,
        1244.8018613009733,
        260.60581517671676,
    ),
]


def autoregressive(chains, draws, coefficient, shift, seed=0):
    """x_t = coefficient x_(t - 1) + z_t, from its stationary distribution."""
    source = problems.generator(seed)
    steps = torch.randn((chains, draws), generator=source, dtype=torch.float64)
    steps[:, 0] /= (1 - coefficient**2) ** 0.5
    for t in range(1, draws):
        steps[:, t] += coefficient * steps[:, t - 1]
    return steps + shift * torch.arange(chains, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("case", ARVIZ)
def test_they_are_those_of_another_library(case):
    *process, rhat, halves, effective, error = case
    draws = autoregressive(*process).exp()  # far from normal
    assert rank_rhat(draws) == pytest.approx(rhat, rel=1e-10)
    assert split_rhat(in_halves(draws)) == pytest.approx(halves, rel=1e-10)
    assert effective_samples(draws) == pytest.approx(effective, rel=1e-10)
    assert error_of_chains(draws) == pytest.approx(error, rel=1e-10)


@pytest.mark.parametrize("coefficient", [0.8, 0.0, -0.3])
def test_the_effective_number_is_that_of_the_closed_form(coefficient):
    """(1 - a) / (1 + a) of the draws of an autoregressive process."""
    draws = autoregressive(4, 20_000, coefficient, 0.0)
    share = (1 - coefficient) / (1 + coefficient)
    assert effective_samples(draws) == pytest.approx(80_000 * share, rel=0.1)


def test_chains_with_one_distribution_agree_and_others_do_not():
    draws = autoregressive(4, 1000, 0.3, 0.0)
    assert rank_rhat(draws) < 1.01
    drifting = draws + torch.linspace(0, 3, 1000)
    wider = draws * torch.tensor([1.0, 1.0, 1.0, 4.0])[:, None]
    assert rank_rhat(draws + torch.arange(4.0)[:, None]) > 1.1
    assert rank_rhat(drifting) > 1.1
    assert rank_rhat(wider) > 1.1
    assert split_rhat(in_halves(wider)) < 1.01  # means alone do not see it


def test_infinite_variances_do_not_hide_a_difference():
    """Cauchy draws, one chain of them shifted."""
    uniform = torch.rand((4, 1000), generator=problems.generator(2)).double()
    cauchy = torch.tan(math.pi * (uniform - 0.5))
    cauchy[0] += 6
    assert rank_rhat(cauchy) > 1.1
    assert split_rhat(in_halves(cauchy)) < 1.1


@pytest.mark.slow
def test_standard_errors_cover_the_truth_as_often_as_they_say():
    """Coverage of 95 % intervals in 2,000 repeats: binomial deviation 0.5 %."""
    long = autoregressive(8000, 400, 0.7, 0.0)
    errors = torch.tensor([error_of_chains(each) for each in long.split(4)])
    means = torch.stack([each.mean() for each in long.split(4)])
    covered = (means.abs() < 1.96 * errors).double().mean()
    assert 0.93 < covered < 0.97


def test_constant_chains_have_no_error():
    draws = torch.ones(3, 10)
    assert rank_rhat(draws) == 1
    assert effective_samples(draws) == 30
    assert error_of_chains(draws) == 0
    apart = draws * torch.arange(3)[:, None]
    assert rank_rhat(apart) == math.inf


def test_a_chain_that_is_too_short_is_refused():
    with pytest.raises(DataError, match=r"at least 4 draws .* got 3"):
        effective_samples(torch.zeros(2, 3))
