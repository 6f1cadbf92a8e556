"""Diagnostics of Markov chains: R-hat, effective sample size, error of a mean.

Sources: Gelman and Rubin, 1992, doi:10.1214/ss/1177011136; Geyer, 1992,
doi:10.1214/ss/1177011137, for where a sum of autocorrelations ends; Vehtari et al.,
2021, arXiv:1903.08008, for chains in halves, ranks and several chains together.

Shape letters: C chains, N draws of each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steppe.errors import DataError

LEAST_DRAWS = 4  # of a chain: two in each half


def rank_rhat(draws: Tensor) -> float:
    """R-hat of ranks: about 1 where the halves of all chains have one distribution.

    The larger of the R-hat of the draws, which sees different means, and of their
    distances to the median, which sees different spreads; both of normal scores, so
    that heavy tails do not hide a difference.

    Args:
        draws: shape (C, N), N at least 4.
    """
    halves = in_halves(draws)
    distances = (halves - halves.quantile(0.5)).abs()
    return max(split_rhat(_normal_scores(each)) for each in (halves, distances))


def split_rhat(halves: Tensor) -> float:
    """Root of the variance over all draws and the mean variance within chains.

    Args:
        halves: of chains, shape (C, N).
    """
    within = halves.var(1).mean()
    if within == 0:
        # Constant chains: the same number in all of them, or never to agree.
        return 1.0 if bool((halves == halves[0, 0]).all()) else math.inf
    count = halves.shape[1]
    pooled = within * (count - 1) / count + halves.mean(1).var()
    return float((pooled / within).sqrt())


def effective_samples(draws: Tensor) -> float:
    """Number of independent draws whose mean has the same variance.

    Autocorrelations are summed in pairs up to the first negative pair, none larger than
    the one before. Negative ones give more than C N, at most C N log10(C N).

    Args:
        draws: shape (C, N), N at least 4.

    Example:
        >>> source = torch.Generator().manual_seed(0)
        >>> steps = torch.randn(4, 1000, generator=source).double()
        >>> 3500 < effective_samples(steps) < 4500
        True
    """
    halves = in_halves(draws)
    count = halves.shape[1]
    covariances = _autocovariances(halves).mean(0)
    within = covariances[0] * count / (count - 1)
    pooled = covariances[0] + halves.mean(1).var()
    total = float(halves.numel())
    if pooled == 0:
        return total
    correlations = 1 - (within - covariances) / pooled
    correlations[0] = 1
    even, odd = correlations[: count - count % 2].view(-1, 2).T
    pairs = even + odd
    # Of the pair that ends the sum, the even one counts once, as in Stan.
    negative = (pairs < 0).nonzero()
    last = max(0, (count - 3) // 2)
    end = min(int(negative[0]), last) if len(negative) else last
    rest = float(even[end].clamp_min(0))
    time = -1 + 2 * float(pairs[:end].cummin(0).values.sum()) + rest
    return total / max(time, 1 / math.log10(total))


def error_of_chains(draws: Tensor) -> float:
    """Standard error of the mean over all draws, by their effective number.

    Args:
        draws: shape (C, N), N at least 4.
    """
    return float(draws.std()) / math.sqrt(effective_samples(draws))


def in_halves(draws: Tensor) -> Tensor:
    """First and last halves of chains as chains, (2 C, N // 2), float64.

    A chain that drifts differs from itself.

    Raises:
        DataError: chains of fewer than 4 draws.
    """
    count = draws.shape[1]
    if count < LEAST_DRAWS:
        raise DataError(
            f"a chain needs at least {LEAST_DRAWS} draws to be compared with itself, "
            f"got {count}; draw more."
        )
    half = count // 2
    return torch.cat((draws[:, :half], draws[:, -half:])).double()


def _normal_scores(draws: Tensor) -> Tensor:
    """Normal quantiles of the ranks among all draws; equal draws share their rank."""
    _, places, counts = torch.unique(draws, return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - (counts.double() - 1) / 2
    shares = (ranks - 0.375) / (draws.numel() + 0.25)
    scores: Tensor = torch.special.ndtri(shares)[places]
    return scores


def _autocovariances(chains: Tensor) -> Tensor:
    """Sums of products at each distance over N, shape (C, N)."""
    count = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    # Padded with zeros, so that the ends of a chain do not meet.
    spectrum = torch.fft.rfft(centred, n=2 * count)
    sums: Tensor = torch.fft.irfft(spectrum.abs().square(), n=2 * count)
    return sums[:, :count] / count
