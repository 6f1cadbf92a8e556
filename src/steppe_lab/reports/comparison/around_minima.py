"""Loss around the minima of several optimizers, drawn where their curves part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, variance

import torch

from steppe.surfaces import Surface

LEAST = 3  # points to each side of the middle, so that a curve has a shape


def above_minimum(surface: Surface, radius: float) -> Surface:
    """The part of a line within a radius, as loss above the smallest of its losses."""
    kept = [place for place, x in enumerate(surface.x) if abs(x) <= radius * (1 + 1e-9)]
    lowest = float(surface.loss[torch.isfinite(surface.loss)].min())
    return replace(
        surface,
        coordinates=(tuple(surface.x[place] for place in kept),),
        loss=surface.loss[kept] - lowest,
        stderr=surface.stderr[kept],
        rise_stderr=None,
        subset_stderr=None,
        quantities={},
    )


def parting_radius(lines: Mapping[str, Sequence[Surface]]) -> float:
    """The radius at which the rises of the optimizers differ most for their spread.

    At each distance on the grid the rise of a run is its loss there, the mean of both
    sides, above the smallest on its line. Compared are the logs of the rises, as F does
    in an analysis of variance; with one run for each, their range. Too near the minimum
    there is no shape to see, and far out all losses are large for reasons that have
    nothing to do with the minimum.

    Args:
        lines: by optimizer, one line for each run, on the same points.

    Returns:
        A distance on the grid; the whole radius where nothing can be compared.
    """
    runs = [line for group in lines.values() for line in group]
    distances = sorted({abs(x) for x in runs[0].x if x and -x in runs[0].x})
    whole = max(map(abs, runs[0].x))
    alike = all(line.x == runs[0].x for line in runs)
    candidates = distances[LEAST - 1 :] if alike else []
    scores = {radius: _contrast(lines, radius) for radius in candidates}
    best = max(scores.values(), default=0.0)
    return next((r for r in candidates if best > 0 and scores[r] == best), whole)


def _contrast(lines: Mapping[str, Sequence[Surface]], radius: float) -> float:
    """How far the groups are apart at a distance; 0 where a rise has no logarithm."""
    groups = [[_rise(line, radius) for line in group] for group in lines.values()]
    groups = [group for group in groups if group]
    every = [rise for group in groups for rise in group]
    if len(groups) < 2 or not all(0 < rise < math.inf for rise in every):
        return 0.0
    logs = [[math.log(rise) for rise in group] for group in groups]
    means = sorted(fmean(group) for group in logs)
    within = [variance(group) for group in logs if len(group) > 1]
    if not within:
        return means[-1] - means[0]
    return variance(means) / max(fmean(within), 1e-12)


def _rise(line: Surface, radius: float) -> float:
    losses = dict(zip(line.x, line.loss.tolist(), strict=True))
    finite = [loss for loss in losses.values() if math.isfinite(loss)]
    sides = (losses[-radius] + losses[radius]) / 2
    return sides - min(finite) if finite else math.nan
