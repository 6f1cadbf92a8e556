"""The loss on a grid of a subspace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steppe.errors import SettingError, brief
from steppe.landscapes.buffers import BatchNorm, check_same, shapes
from steppe.landscapes.evaluation.evaluator import (
    Evaluator,
    PointValues,
    Progress,
    SampleQuantity,
)
from steppe.landscapes.evaluation.grid import (
    Coordinates,
    grid_of,
    points_of,
    shape_of,
)
from steppe.landscapes.evaluation.subset import Samples
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.objective import Objective, check_objective
from steppe.surfaces import Surface, Values
from steppe.surfaces.surface import letters_of

SAMPLES = 5000


def landscape(
    objective: Objective,
    subspace: Subspace,
    x: Coordinates | None = None,
    y: Coordinates | None = None,
    z: Coordinates | None = None,
    *,
    axes: Sequence[Coordinates | None] | None = None,
    batch_norm: BatchNorm | None = None,
    quantities: Sequence[SampleQuantity] = (),
    samples: Samples = SAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Surface:
    """Mean loss on a grid of a subspace, with its standard error over the samples.

    Args:
        objective: the mean loss; its model is moved and put back bit for bit, also
            after an exception.
        subspace: the line, plane, box or curve; its base point, not the model's present
            one, is at 0.
        x: coordinates along the first axis. A tuple `(start, stop, count)` whose count
            is an integer, of Python or numpy, stands for evenly spaced ones, both ends
            included; any other sequence for itself. None stands for 51 on the range of
            the axis: from -1 to 1 on a random line, from 0 to 1 between networks.
        y: the same along the second axis of a plane or box.
        z: the same along the third axis of a box.
        axes: the same for each axis of a subspace of any number, in place of x, y and
            z.
        batch_norm: running statistics and all other buffers at a point. "freeze" keeps
            those of the base point, as Li et al., 2018, do along random directions;
            "interpolate" has them go from one network to the other with the weights;
            "reestimate" sets running statistics to those of the evaluated samples at
            the weights, for a pass more at each point, and interpolates other buffers;
            a function is called with the model at each point, such as `lambda model:
            reestimate(model, loader)` of `steppe.averaging`. None: "reestimate" between
            networks, where the others may be far off, "interpolate" along directions of
            states, and "freeze" elsewhere. Mode
            "train" of the objective uses statistics of the batch instead.
        quantities: beside the loss, means over samples.
        samples: that points are evaluated on, the same ones at all of them; None or
            "all" for all. Only the rise above the base point is then an estimate: the
            loss there is that of all of the data. Rows of batches are drawn where
            losses are those of single rows, else whole batches.
        seed: of the draw of these samples; equally many are drawn as the same rows.
        progress: called with the number of evaluations done and of all.

    Returns:
        Surface with the losses, shape (X,) on a line and (Y, X) on a plane; the details
        hold how the subspace was made, the ranges and, for a model with running
        statistics, their mode. The standard errors of a single sample
        are infinite; in mode "train" they are at least those of a mean over drawn
        batches.

    Raises:
        SettingError: coordinates that are none or not finite, a count that is no
            integer, an unknown mode, or a subspace of another model.
        DataError: no loss terms.
    """
    check_objective(objective, "landscape")
    if not isinstance(subspace, Subspace):
        raise SettingError(
            "landscape() needs a steppe.Line such as Line.random(model), a Plane, a "
            f"Box or a Curve, got {brief(subspace)}."
        )
    coordinates = grid_of(subspace, (x, y, z), axes)
    _check_belongs(objective, subspace)
    evaluator = Evaluator(
        objective, subspace, batch_norm, quantities, samples=samples, seed=seed
    )
    values = evaluator.evaluate(points_of(coordinates), progress)
    return _surface(evaluator, coordinates, values)


def _surface(
    evaluator: Evaluator,
    coordinates: tuple[tuple[float, ...], ...],
    values: Sequence[PointValues],
) -> Surface:
    shape, subspace = shape_of(coordinates), evaluator.subspace

    def on_grid(numbers: Sequence[float]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float64).reshape(shape)

    others = {
        quantity.name: Values(
            values=on_grid([each.quantities[quantity.name][0] for each in values]),
            stderr=on_grid([each.quantities[quantity.name][1] for each in values]),
            units=quantity.units,
        )
        for quantity in evaluator.quantities
    }
    if evaluator.objective.penalty is not None:
        penalties = on_grid([each.penalty for each in values])
        others["penalty"] = Values(values=penalties, units="loss")
    origin = zip(subspace.origin, coordinates, strict=True)
    letters = letters_of(len(coordinates))
    ranges = [(min(along), max(along)) for along in coordinates]
    return Surface(
        coordinates=coordinates,
        loss=on_grid([each.loss for each in values]),
        stderr=on_grid([each.stderr for each in values]),
        rise_stderr=on_grid([each.rise_stderr for each in values]),
        subset_stderr=on_grid([each.subset_stderr for each in values]),
        samples=evaluator.part.objective.count(),
        quantities=others,
        axes=tuple(axis.unit for axis in subspace.axes),
        details={
            **evaluator.details,
            **subspace.details,
            **subspace.geometry(),
            "range": ranges[0] if len(ranges) == 1 else dict(zip(letters, ranges)),
            "has_centre": all(centre in along for centre, along in origin),
        },
    )


def _check_belongs(objective: Objective, subspace: Subspace) -> None:
    """Refuse a subspace of other parameters or buffers than the model has."""
    wanted = dict(zip(subspace.names, subspace.base, strict=True))
    present = dict(zip(objective.names, objective.params, strict=True))
    check_same(shapes(wanted), shapes(present), "parameters")
    if subspace.buffers:
        own = dict(objective.model.named_buffers())
        check_same(shapes(subspace.buffers), shapes(own), "buffers")
