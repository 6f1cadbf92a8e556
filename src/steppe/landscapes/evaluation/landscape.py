"""The loss on a grid of a subspace."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch

from steppe.errors import SettingError, brief, check_count, check_positive, check_switch
from steppe.landscapes.buffers import BatchNorm
from steppe.landscapes.evaluation.beside import (
    Stages,
    check_also,
    check_names,
    evaluator_of_others,
    of_points,
)
from steppe.landscapes.evaluation.evaluator import Evaluator, Progress
from steppe.landscapes.evaluation.grid import warn_without_base
from steppe.landscapes.evaluation.grid_values import (
    LOSS,
    MEAN,
    RISE_STDERR,
    STDERR,
    SUBSET_STDERR,
    GridValues,
)
from steppe.landscapes.evaluation.output import output_of
from steppe.landscapes.evaluation.points import Points
from steppe.landscapes.evaluation.precision import check_steps
from steppe.landscapes.evaluation.range import Along, Ranges
from steppe.landscapes.evaluation.refinement import refine
from steppe.landscapes.evaluation.strategies import Way
from steppe.landscapes.evaluation.subset import Samples
from steppe.landscapes.quantities.choice import Quantity
from steppe.landscapes.quantities.choice import chosen as chosen_of
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.objective import Objective, check_objective
from steppe.surfaces import Surface, Values
from steppe.surfaces.surface import letters_of

SAMPLES = 5000


def landscape(
    objective: Objective,
    subspace: Subspace,
    x: Along = None,
    y: Along = None,
    z: Along = None,
    *,
    axes: Sequence[Along] | None = None,
    batch_norm: BatchNorm | None = None,
    quantities: str | Sequence[Quantity] = (),
    every: int = 1,
    also: Mapping[str, Objective] | None = None,
    samples: Samples = SAMPLES,
    seed: int = 0,
    tolerance: float = 0.01,
    exact: bool = False,
    strategy: Way = "auto",
    dtype: torch.dtype | None = None,
    compile: bool = False,
    out: str | PathLike[str] | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Surface:
    """Mean loss on a grid of a subspace, with its standard error over the samples.

    Of more than 25 points on ranges, only some are evaluated: nested grids with 5, 9,
    17, ... nodes along each range (of at least 9 coordinates), until a cubic spline
    through one of them meets points that it has not seen. The others are interpolated,
    and `computed` of the surface is False there. A surface that no spline meets is
    evaluated at all points. No other points than those of the grid are evaluated.

    Args:
        objective: the mean loss; its model is moved and put back bit for bit, also
            after an exception.
        subspace: the line, plane, box or curve; its base point, not the model's present
            one, is at 0.
        x: coordinates along the first axis. A tuple `(start, stop, count)` whose count
            is an integer, of Python or numpy, stands for evenly spaced ones, both ends
            included; any other sequence for itself. None stands for 51 on the range of
            the axis: from -1 to 1 on a random line, from 0 to 1 between networks.
            "auto", or `("auto", count)`, seeks the range: it ends where the loss is ten
            times that of the base point, on the steeper side, for 3 to 13 more
            evaluations; the details have, as "auto", the distances at which it is
            1.01, 3 and 10 times as high.
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
            networks and along principal components of checkpoints, where the others
            may be far off, "interpolate" along directions of states, and "freeze"
            elsewhere. Mode "train" of the objective uses statistics of the batch
            instead.
        quantities: beside the loss, by name or as objects. Means over samples:
            "accuracy"; "class_losses", of the samples of each class; "loss_terms", of
            a loss that is a `SumOfTerms`; a `SampleMean`. Of the whole objective, on
            the evaluated samples: "gradient_norm"; "top_eigenvalue",
            "smallest_eigenvalue" and "eigenvalue_ratio" (|smallest / largest|) of the
            Hessian; a `PointQuantity`, such as of a measure.
        every: those of the whole objective are evaluated at every so many points along
            each axis, the base point among them, and NaN elsewhere.
        also: further objectives of the same model object by name, such as `{"test":
            test_objective}`, on whose data loss and means over samples are evaluated
            too: the quantities "test_loss", "test_accuracy" and so on. Statistics that
            are re-estimated are those of `objective`.
        samples: that points are evaluated on, the same ones at all of them; None or
            "all" for all. Only the rise above the base point is then an estimate: the
            loss there is that of all of the data. Rows of batches are drawn where
            losses are those of single rows, else whole batches.
        seed: of the draw of these samples; equally many are drawn as the same rows.
        strategy: "auto" shares the work of a first layer with more than 30 % of the
            multiplications among the points, which changes losses by rounding, and
            else, like "one_by_one" always, makes one pass after the other; with both, a
            point has the same bits whichever others are evaluated. "fastest" evaluates
            4, 16 or 64 points at once by `torch.func.vmap` where a timed trial on the
            first batch says that it takes less time: for small networks, few samples
            and accelerators; losses then agree but for rounding. The details have the
            strategy that was used.
        dtype: torch.bfloat16 for passes of a float32 network under autocast, which
            changes losses by some tenths of a percent; refused for eigenvectors and
            for steps that it rounds away.
        compile: compile passes, which pays in long jobs on networks of many small
            operations; passes that cannot be compiled are made as they are.
        tolerance: that the root mean square of relative errors of the spline must
            meet. They are relative to the range of the values on the grid, and those of
            a positive loss to the loss, where it is smaller than that.
        exact: evaluate all points.
        out: a file to write the surface to, in a format of `Surface.save`; or a folder.
            Points are kept as they finish, in the folder or in one beside the file
            (`surface.h5.points`): after an interruption the same call goes on, and
            several processes that make it at a time share the points; each of them
            returns the whole surface. `Surface.load` of the folder gives the points so
            far. They serve other grids of the same subspace too. Quantities of the
            whole objective are not kept.
        resume: go on from the points in `out`; False removes them first.
        progress: called with the number of evaluations of a batch done, and of all that
            are planned, which become fewer when the tolerance is met; those of further
            objectives, and points of quantities of the whole objective, are added when
            they begin.

    Returns:
        Surface with the losses, shape (X,) on a line and (Y, X) on a plane; the details
        hold how the subspace was made, the ranges and, for a model with running
        statistics, their mode. The standard errors of a single sample
        are infinite; in mode "train" they are at least those of a mean over drawn
        batches. Where points were interpolated, the details have, as "interpolation",
        the number of points evaluated, that of nodes along each axis and of points
        that the spline was tested at, and the relative errors there, of which
        `stderr` knows nothing. Standard errors are interpolated like the rest.

    Raises:
        SettingError: coordinates that are none or not finite, a count that is no
            integer, an unknown mode, or a subspace of another model.
        DataError: no loss terms, NaN in the weights of a network, or `out` holds points
            of another recipe.
        StoreError: `out` cannot be read or written; what was finished is kept.
        UsageError: the package of the format of `out` is not installed.
    """
    check_objective(objective, "landscape")
    if not isinstance(subspace, Subspace):
        raise SettingError(
            "landscape() needs a steppe.Line such as Line.random(model), a Plane, a "
            f"Box or a Curve, got {brief(subspace)}."
        )
    check_positive("tolerance", tolerance)
    check_switch("exact", exact)
    check_count("every", every, 1)
    chosen, further = chosen_of(quantities), check_also(also, objective)
    ranges = Ranges(subspace, (x, y, z), axes)
    subspace.check_belongs(objective)
    subspace.check_numbers()
    output = output_of(out, resume=resume)
    evaluator = Evaluator(
        objective,
        subspace,
        batch_norm,
        chosen.of_samples(objective),
        samples=samples,
        seed=seed,
        strategy=strategy,
        dtype=dtype,
        compile=compile,
    )
    check_names(evaluator, chosen, further)
    stages = Stages(progress)
    grid = ranges.grid(evaluator, stages.begun)
    check_steps(subspace, grid.coordinates, dtype)
    warn_without_base(grid, subspace)
    values = GridValues(grid, Points(evaluator, stages.begun(), output.folder))
    about = _evaluate(values, tolerance, exact=exact)
    if not bool(values.tensor(LOSS).isfinite().any()):
        warnings.warn(
            "the loss is finite at no point of the grid; look for NaN and infinities "
            "in the weights, the buffers and the data of the objective.",
            stacklevel=2,
        )
    others: dict[str, Values] = {}
    others_about: dict[str, Any] = {}
    for name, other in further.items():
        there = evaluator_of_others(evaluator, other, chosen)
        its = GridValues(grid, Points(there, stages.begun(), output.part(name)))
        others_about[name] = other.details | _evaluate(its, tolerance, exact=exact)
        loss = Values(
            values=its.tensor(LOSS), stderr=its.tensor(("loss", STDERR)), units="loss"
        )
        known = {"loss": loss, **_means(there, its)}
        others |= {f"{name}_{key}": value for key, value in known.items()}
    points, doubts = of_points(
        evaluator, grid, chosen.of_points(), every, stages.begun()
    )
    more = {
        **ranges.details,
        **doubts,
        **({"also": others_about} if others_about else {}),
    }
    surface = _surface(evaluator, values, about, others | points, more)
    output.finish(surface)
    return surface


def _evaluate(values: GridValues, tolerance: float, *, exact: bool) -> dict[str, Any]:
    """Evaluate a grid; give the details of an interpolation where there is one."""
    if exact:
        values.plan(values.grid.places())
        values.evaluate(values.grid.places())
    elif refined := refine(values, tolerance):
        return {"interpolation": refined.details(tolerance, values)}
    return {}


def _means(evaluator: Evaluator, values: GridValues) -> dict[str, Values]:
    """Means over samples beside the loss, by name."""
    return {
        quantity.name: Values(
            values=values.tensor((quantity.name, MEAN)),
            stderr=values.tensor((quantity.name, STDERR)),
            units=quantity.units,
        )
        for quantity in evaluator.quantities
    }


def _networks(subspace: Subspace) -> dict[str, Any]:
    """Coordinates of the networks that a plane goes through, the base point first."""
    if not subspace.exact or subspace.course is not None:
        return {}
    return {"networks": [subspace.origin, *subspace.exact]}


def _surface(
    evaluator: Evaluator,
    values: GridValues,
    about: dict[str, Any],
    beside: dict[str, Values],
    more: dict[str, Any],
) -> Surface:
    objective, subspace, grid = evaluator.objective, evaluator.subspace, values.grid
    others = {**_means(evaluator, values), **beside}
    if objective.penalty is not None:
        others["penalty"] = Values(
            values=values.tensor(("penalty", MEAN)), units="loss"
        )
    letters, ranges = letters_of(len(grid.ranges)), grid.ranges
    return Surface(
        coordinates=grid.coordinates,
        loss=values.tensor(LOSS),
        stderr=values.tensor(("loss", STDERR)),
        rise_stderr=values.tensor(("loss", RISE_STDERR)),
        subset_stderr=values.tensor(("loss", SUBSET_STDERR)),
        samples=evaluator.part.objective.count(),
        computed=values.evaluated if about else None,
        quantities=others,
        axes=tuple(axis.unit for axis in subspace.axes),
        details={
            **evaluator.details,
            "strategy": evaluator.used,
            **_networks(subspace),
            **subspace.details,
            **subspace.geometry(),
            **subspace.digests,
            "range": ranges[0] if len(ranges) == 1 else dict(zip(letters, ranges)),
            "has_centre": None not in grid.bases,
            **about,
            **more,
        },
    )
