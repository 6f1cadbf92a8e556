"""Weights of a stochastic Lanczos quadrature, with single eigenvalues counted as one.

The weight of a Ritz value is the square of a random projection: a chance of mean 1/D
for a single eigenvalue, however well its pair has converged. Such pairs are taken out
and count 1/D exactly (deflation: Gambhir et al., 2017, doi:10.1137/16M1066361); the
other weights are scaled to the eigenvalues that are left, and tilted so that the first
moment is that of the trace (calibration of a sample to a known total: Deville and
Särndal, 1992, doi:10.1080/01621459.1992.10475217).

Shape letters: D parameters in all, M probes, m Krylov steps, c pairs taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe.linalg.krylov import Projection
from steppe.results import Estimate, Measure, Quadrature, spread

ISOLATED = 0.01  # residual as a share of the gap: the pair blends no neighbours
NONZERO = 1e-3  # residual as a share of the value: zeros are many, and stay in
ALIKE = 1e-4  # squared sine between the vectors that two probes have of one eigenvalue
RARE = 10.83  # D times a weight: one eigenvalue has more once in a thousand starts


@dataclass(frozen=True)
class Run:
    """Quadrature of one probe; everything float64, on the host."""

    nodes: Tensor  # (m,) ascending
    weights: Tensor  # (m,) of the spectral measure of the start, sum 1
    early_nodes: Tensor  # (h,) after h = 3 m / 4 steps
    early_weights: Tensor  # (h,)
    single: Tensor  # (m,) bool: converged, isolated, not zero

    @classmethod
    def of(cls, space: Projection) -> Run:
        """Read off a Krylov space."""
        values, coefficients, residuals = space.ritz()
        before = max(1, 3 * space.steps // 4)
        earlier, mix = torch.linalg.eigh(space.inner[:before, :before])
        return cls(
            nodes=values,
            weights=coefficients[0].square(),
            early_nodes=earlier,
            early_weights=mix[0].square(),
            single=_isolated(values, residuals),
        )


def quadrature(
    spaces: Sequence[Projection], overlaps: Sequence[Tensor], size: int, trace: Estimate
) -> Quadrature:
    """Quadrature by Krylov spaces of several starts.

    Args:
        spaces: of M starts, with the same number of steps.
        overlaps: inner products of the basis of the first with that of each other one.
        size: D.
        trace: of the operator, exact, or with an error.
    """
    runs = [Run.of(space) for space in spaces]
    if spaces[0].exhausted:  # these are all eigenvalues, whatever the start
        single = torch.ones(len(runs), size, dtype=torch.bool, device="cpu")
        weights = torch.full(single.shape, 1 / size, dtype=torch.float64, device="cpu")
    else:
        wanted = runs[0].single.nonzero()[:, 0]
        others = zip(spaces[1:], overlaps, strict=True)
        places = [recognised(spaces[0], *other, wanted) for other in others]
        single = singles(runs, [wanted, *places], size)
        weights = shares(runs, single, size, trace)
    return Quadrature(
        nodes=torch.stack([run.nodes for run in runs]),
        weights=weights,
        single=single,
        starts=measures(runs),
        size=size,
        trace=trace,
    )


def recognised(
    first: Projection, other: Projection, overlaps: Tensor, wanted: Tensor
) -> Tensor:
    """Places of Ritz pairs in another space, by their vectors: (c,), -1 for none.

    Two starts see one vector of a single eigenvalue, but two of a multiple one.

    Args:
        first: the space of the pairs.
        other: the space to look in.
        overlaps: inner products of their bases, (m, m).
        wanted: which pairs of `first`, (c,).
    """
    here, there = first.ritz()[1][:, wanted], other.ritz()[1]
    cosines = here.T @ overlaps @ there  # (c, m)
    best = cosines.abs().max(1)
    return torch.where(1 - best.values.square() <= ALIKE, best.indices, -1)


def measures(runs: Sequence[Run]) -> tuple[Measure, Measure]:
    """Spectral measures of the starts, after all steps and three quarters."""
    full = [run.nodes for run in runs], [run.weights for run in runs]
    early = [run.early_nodes for run in runs], [run.early_weights for run in runs]
    return Measure(*map(torch.stack, full)), Measure(*map(torch.stack, early))


def singles(runs: Sequence[Run], places: Sequence[Tensor], size: int) -> Tensor:
    """Nodes that stand for one eigenvalue each, (M, m) bool.

    Args:
        runs: of M probes.
        places: of the isolated pairs of the first run in each of them, M times (c,);
            -1 where one was not recognised.
        size: D.
    """
    mask = torch.zeros((len(runs), len(runs[0].nodes)), dtype=torch.bool, device="cpu")
    everywhere = torch.stack(list(places))
    # A pair counts as one eigenvalue only where every probe has it as one.
    accepted = (everywhere >= 0).all(0)
    for run, nodes in zip(runs, everywhere, strict=True):
        accepted &= run.single[nodes]
    if len(runs) == 1:  # no second vector to compare: only many copies show
        accepted &= runs[0].weights[everywhere[0]] * size <= RARE
    for row, nodes in zip(mask, everywhere, strict=True):
        row[nodes[accepted]] = True
    return mask & ~mask.all(1, keepdim=True)  # something has to stand for the others


def shares(runs: Sequence[Run], single: Tensor, size: int, trace: Estimate) -> Tensor:
    """Share of the spectrum that each node stands for, (M, m); rows sum to 1.

    Args:
        runs: of M probes.
        single: nodes that stand for one eigenvalue each, (M, m) bool.
        size: D.
        trace: exact, or with an error, which is weighed against that of the probes.
    """
    nodes = torch.stack([run.nodes for run in runs])
    drawn = torch.stack([run.weights for run in runs]).masked_fill(single, 0.0)
    taken = single.double() / size
    left = 1 - taken.sum(1, keepdim=True)
    rest = left * drawn / drawn.sum(1, keepdim=True)
    moments = (taken + rest) * nodes
    variance = spread(size * rest, nodes) / len(runs)
    if not variance > 0:  # one eigenvalue only
        return taken + rest
    # The probes and the trace both estimate the mean eigenvalue: their combination of
    # least variance weighs each by the variance of the other.
    trust = variance / (variance + trace.stderr**2)
    off = trust * (trace.value / size - float(moments.sum(1).mean()))
    goal = float((rest * nodes).sum(1).mean()) + off
    return taken + _tilted(rest, nodes, goal)


def _isolated(values: Tensor, residuals: Tensor) -> Tensor:
    apart = values.diff()
    edge = torch.full((1,), torch.inf, dtype=values.dtype, device="cpu")
    gaps = torch.minimum(torch.cat([edge, apart]), torch.cat([apart, edge]))
    return (residuals <= NONZERO * values.abs()) & (residuals <= ISOLATED * gaps)


def _tilted(weights: Tensor, nodes: Tensor, moment: float) -> Tensor:
    """Weights (M, m) times exp(t node), with the same sums of rows.

    One t for all probes gives the mean over them the first moment that is asked for;
    one that no positive weights have leaves the weights as they are.
    """
    used = nodes[weights > 0]
    low, span = used.min(), used.max() - used.min()
    totals = weights.sum(1, keepdim=True)
    goal = float((moment - low * totals.mean()) / span)
    if not 0 < goal < float(totals.mean()):
        return weights
    places, bounds = (nodes - low) / span, [-1e4, 1e4]
    # The moment grows with the tilt: bisection needs no derivative and cannot leave
    # the bracket, where weights of 1e-30 would make Newton's steps overshoot.
    for _ in range(80):
        tilt = sum(bounds) / 2
        tilted = totals * torch.softmax(weights.log() + tilt * places, dim=1)
        bounds[int(float((tilted * places).sum(1).mean()) > goal)] = tilt
    return tilted
