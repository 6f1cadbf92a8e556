"""The loss at points of a subspace.

Every batch is loaded once and evaluated at all points; the parameters of a point are
always computed from the base point, so nothing drifts.

Shape letters: X points, N loss terms.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from steppe.batches import variance_by_batch
from steppe.errors import SettingError, brief
from steppe.landscapes.buffers import (
    BatchNorm,
    buffers_of,
    check_same,
    mode_of,
    shapes,
)
from steppe.landscapes.line import Line
from steppe.objective import Objective, check_objective
from steppe.parameters import (
    BufferSnapshot,
    copy_,
    displace_,
    overwrite_,
    restored,
)
from steppe.results import Cost, Surface

Progress = Callable[[int, int], None]


def landscape(
    objective: Objective,
    subspace: Line,
    x: tuple[float, float, int] | Iterable[float] = (-1, 1, 51),
    *,
    batch_norm: BatchNorm = "interpolate",
    progress: Progress | None = None,
) -> Surface:
    """Mean loss along a line, with its standard error over the samples.

    Args:
        objective: the mean loss; its model is moved and put back bit for bit, also
            after an exception.
        subspace: the line; its base point, not the model's present one, is at 0.
        x: coordinates. A tuple `(start, stop, count)` whose count is an integer, of
            Python or numpy, stands for evenly spaced ones, both ends included; any
            other sequence for itself.
        batch_norm: running statistics and all other buffers at a point. "interpolate"
            has them go from one end of a line between models to the other with the
            weights, and stay those of the base point of a random one; "freeze" keeps
            those of the base point; a function is called with the model at each point,
            such as `lambda model: reestimate(model, loader)` of `steppe.averaging`.
            Mode "train" of the objective uses statistics of the batch instead.
        progress: called with the number of evaluations done and of all.

    Returns:
        Surface with X losses; the details hold how the line was made, the range and,
        for a model with buffers, "interpolate", "freeze" or "reestimate".
        The standard errors of a single sample are infinite; in mode "train" they are
        at least those of a mean over drawn batches.

    Raises:
        SettingError: coordinates that are none or not finite, a count that is no
            integer, an unknown mode, or a line through another model.
        DataError: no loss terms.
    """
    check_objective(objective, "landscape")
    if not isinstance(subspace, Line):
        raise SettingError(
            "landscape() needs a steppe.Line such as Line.random(model), got "
            f"{brief(subspace)}."
        )
    coordinates = _coordinates(x)
    if objective.mode == "reestimate":
        batch_norm = partial(_renew_statistics, objective)
    mode = mode_of(batch_norm, moving=subspace.end_buffers is not None)
    wanted = dict(zip(subspace.names, subspace.base, strict=True))
    present = dict(zip(objective.names, objective.params, strict=True))
    check_same(shapes(wanted), shapes(present), "parameters")
    if subspace.buffers:
        own = dict(objective.model.named_buffers())
        check_same(shapes(subspace.buffers), shapes(own), "buffers")
    terms = objective.count()
    mean, stderr = _means(objective, subspace, coordinates, batch_norm, progress)
    return Surface(
        x=coordinates,
        loss=mean.cpu(),
        stderr=stderr.cpu(),
        samples=terms,
        details=_details(objective, subspace, coordinates, mode),
    )


def _renew_statistics(objective: Objective, _model: nn.Module) -> None:
    objective.renew_statistics()


def _means(
    objective: Objective,
    line: Line,
    coordinates: Sequence[float],
    batch_norm: BatchNorm,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Mean losses at all points and their standard errors, shapes (X,)."""
    params: list[Tensor] = list(objective.params)
    points, batches, counts = len(coordinates), len(objective.batches), list[int]()
    shape = (3, points)
    modes = {module: module.training for module in objective.model.modules()}
    objective.check_repeatable()
    with objective.measuring(), restored(params), torch.no_grad():
        base = _in_order_of(objective, line.names, line.base)
        toward = _in_order_of(objective, line.names, line.direction)
        end = line.end and _in_order_of(objective, line.names, line.end)

        def move(coordinate: float) -> None:
            if coordinate == 1 and end is not None:
                overwrite_(params, end)  # base + direction rounds to another point
            else:
                overwrite_(params, base)
                displace_(params, toward, coordinate)

        own = dict(objective.model.named_buffers())
        _write(own, {k: v.to(objective.device) for k, v in line.buffers.items()})
        at_base = BufferSnapshot(objective.model)
        # Before the batches: re-estimated statistics need a pass over the data, and
        # all batches of a point have to see the same ones.
        buffers = [
            _buffers(objective, line, c, batch_norm, move, modes, at_base)
            for c in coordinates
        ]
        penalties = torch.zeros(points, dtype=torch.float64, device=objective.device)
        if objective.penalty is not None:
            for i, coordinate in enumerate(coordinates):
                move(coordinate)
                penalties[i] = objective.penalty_value()
        moments = torch.zeros(shape, dtype=torch.float64, device=objective.device)
        sums = moments.new_zeros(batches, points)

        for index in range(batches):
            for i, coordinate in enumerate(coordinates):
                move(coordinate)  # from the base, not the last point: no drift
                # A forward pass may have put other tensors in the place of buffers.
                at_base.put_back()
                _write(own, buffers[i])
                losses = objective.batch_values(index).double()
                if not sum(counts) and len(
                    losses
                ):  # squares about a mean do not cancel
                    moments[0, i] = losses.mean()
                sums[index, i] = losses.sum()
                moments[1, i] += sums[index, i]
                moments[2, i] += (losses - moments[0, i]).square().sum()
                if progress is not None:
                    progress(index * points + i + 1, batches * points)
            counts.append(losses.numel())
    objective.cost += Cost(forwards=points)
    terms = sum(counts)
    origin, mean, square = moments[0], moments[1] / terms, moments[2] / terms
    if terms < 2:
        return mean + penalties, torch.full_like(mean, math.inf)
    variance = (square - (mean - origin).square()).clamp(min=0) / (terms - 1)
    if objective.mode == "train":  # batches share statistics and random draws
        variance = torch.maximum(variance, variance_by_batch(sums, counts))
    return mean + penalties, variance.sqrt()


def _buffers(
    objective: Objective,
    line: Line,
    coordinate: float,
    batch_norm: BatchNorm,
    move: Callable[[float], None],
    modes: Mapping[nn.Module, bool],
    at_base: BufferSnapshot,
) -> dict[str, Tensor]:
    """Buffers that are others at a point than at the base point of the line.

    They are computed before any batch is evaluated.
    """
    at = 0.0 if batch_norm == "freeze" else coordinate
    chosen = {k: v.to(objective.device) for k, v in line.changed_buffers(at).items()}
    if not callable(batch_norm):
        return chosen
    at_base.put_back()
    own = dict(objective.model.named_buffers())
    base = buffers_of(objective.model)
    move(coordinate)
    _write(own, chosen)
    with _in_modes(modes):
        batch_norm(objective.model)
    estimated = buffers_of(objective.model)
    # A tensor of another shape is no statistic but a cache that has grown.
    return {
        name: estimated[name]
        for name, b in base.items()
        if estimated[name].shape == b.shape and not torch.equal(estimated[name], b)
    }


@contextmanager
def _in_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Puts layers into their own modes: some may be frozen by evaluation mode."""
    measured = {module: module.training for module in modes}
    try:
        for module, mode in modes.items():
            module.training = mode
        yield
    finally:
        for module, mode in measured.items():
            module.training = mode


def _write(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    copy_([own[name] for name in values], list(values.values()))


def _in_order_of(
    objective: Objective, names: Sequence[str], tensors: Sequence[Tensor]
) -> list[Tensor]:
    by_name = dict(zip(names, tensors, strict=True))
    return [by_name[name].to(objective.device) for name in objective.names]


def _coordinates(x: Any) -> tuple[float, ...]:
    try:
        return _numbers(x)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(
            f"x must be (start, stop, count) or a list of coordinates, got {brief(x)}."
        ) from error


def _numbers(x: Any) -> tuple[float, ...]:
    triple = isinstance(x, tuple) and len(x) == 3
    if triple and isinstance(x[2], numbers.Integral):
        start, stop, count = float(x[0]), float(x[1]), int(x[2])
        if count < 2:
            raise SettingError(
                f"the count of x=(start, stop, count) must be >= 2, got {count}; "
                "give single coordinates as a list."
            )
        last = count - 1
        # Weighted ends: a symmetric range has its centre at exactly 0.
        coordinates = tuple(
            (start * (last - i) + stop * i) / last for i in range(count)
        )
    else:
        coordinates = tuple(float(coordinate) for coordinate in x)
        if triple and coordinates[2] >= 2 and coordinates[2].is_integer():
            raise SettingError(
                "the count of x=(start, stop, count) must be an integer, got "
                f"{x[2]!r}; give three coordinates as a list."
            )
    if not coordinates or not all(map(math.isfinite, coordinates)):
        raise SettingError(f"x must hold at least one coordinate, all finite, got {x}.")
    return coordinates


def _details(
    objective: Objective, line: Line, coordinates: Sequence[float], mode: str
) -> dict[str, Any]:
    return {
        **objective.details,
        **line.details,
        **({"batch_norm": mode} if line.buffers else {}),
        "range": (min(coordinates), max(coordinates)),
        "has_centre": 0.0 in coordinates,
    }
