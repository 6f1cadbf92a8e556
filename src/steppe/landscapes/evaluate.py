"""The loss at points of a subspace.

Every batch is loaded once and evaluated at all points; the parameters of a point are
always computed from the base point, so nothing drifts.

Shape letters: X points, N loss terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.landscapes.subspaces import Line, check_same
from steppe.objective import Objective
from steppe.parameters import restored
from steppe.results import Cost, Surface

Progress = Callable[[int, int], None]


def landscape(
    objective: Objective,
    subspace: Line,
    x: tuple[float, float, int] | Iterable[float] = (-1, 1, 51),
    *,
    progress: Progress | None = None,
) -> Surface:
    """Mean loss along a line, with its standard error over the samples.

    Args:
        objective: the mean loss; its model is moved and put back bit for bit, also
            after an exception.
        subspace: the line; its base point, not the model's present one, is at 0.
        x: coordinates. A tuple `(start, stop, count)` with a whole count stands for
            evenly spaced ones, both ends included; any other sequence for itself.
        progress: called with the number of evaluations done and of all.

    Returns:
        Surface with X losses; the details hold how the line was made and the range.

    Raises:
        SettingError: coordinates that are none or not finite, or a line through
            another model.
    """
    coordinates = _coordinates(x)
    wanted = zip(subspace.names, (b.shape for b in subspace.base), strict=True)
    present = zip(objective.names, (p.shape for p in objective.params), strict=True)
    check_same(dict(wanted), dict(present))
    mean, variance, terms = _moments(objective, subspace, coordinates, progress)
    spread = variance / max(terms - 1, 1)
    return Surface(
        x=coordinates,
        loss=mean.cpu(),
        stderr=spread.sqrt().cpu(),
        samples=terms,
        details=_details(objective, subspace, coordinates),
    )


def _moments(
    objective: Objective,
    line: Line,
    coordinates: Sequence[float],
    progress: Progress | None,
) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of the losses at all points, shape (X,), and N."""
    params: list[Tensor] = list(objective.params)
    base = [b.to(p.device) for b, p in zip(line.base, params, strict=True)]
    toward = [d.to(p.device) for d, p in zip(line.direction, params, strict=True)]
    points, batches, terms = len(coordinates), len(objective.batches), 0
    shape = (3, points)
    moments = torch.zeros(shape, dtype=torch.float64, device=objective.device)
    with restored(params), objective.measuring(), torch.no_grad():
        for index in range(batches):
            for i, coordinate in enumerate(coordinates):
                torch._foreach_copy_(params, base)
                torch._foreach_add_(params, toward, alpha=coordinate)
                losses = objective.batch_losses(index).double()
                if index == 0:  # squares about a first mean do not cancel
                    moments[0, i] = losses.mean()
                moments[1, i] += losses.sum()
                moments[2, i] += (losses - moments[0, i]).square().sum()
                if progress is not None:
                    progress(index * points + i + 1, batches * points)
            terms += losses.numel()
    objective.cost += Cost(forwards=points)
    origin, mean, square = moments[0], moments[1] / terms, moments[2] / terms
    return mean, (square - (mean - origin).square()).clamp(min=0), terms


def _coordinates(x: Any) -> tuple[float, ...]:
    if isinstance(x, tuple) and len(x) == 3 and isinstance(x[2], int):
        start, stop, count = x
        if count < 2:
            raise SettingError(
                f"the count of x=(start, stop, count) must be >= 2, got {count}; "
                "give single coordinates as a list."
            )
        last = count - 1
        # Weighted ends: a symmetric range has its centre at exactly 0.
        found = tuple((start * (last - i) + stop * i) / last for i in range(count))
    else:
        found = tuple(float(coordinate) for coordinate in x)
    if not found or not all(map(math.isfinite, found)):
        raise SettingError(f"x must hold at least one coordinate, all finite, got {x}.")
    return found


def _details(
    objective: Objective, line: Line, coordinates: Sequence[float]
) -> dict[str, Any]:
    return {
        **objective.details,
        **line.details,
        "range": (min(coordinates), max(coordinates)),
        "has_centre": 0.0 in coordinates,
    }
