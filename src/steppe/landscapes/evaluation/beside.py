"""Values beside the loss: quantities of points, and other data of the same network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from steppe.errors import SettingError, SteppeError, brief
from steppe.landscapes.evaluation.evaluator import Evaluator
from steppe.landscapes.evaluation.grid import Grid, Place
from steppe.landscapes.evaluation.statistics import refit
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.quantities.choice import TAKEN, Chosen
from steppe.landscapes.quantities.points import Here, Known, PointQuantity
from steppe.objective import Objective
from steppe.results import Estimate
from steppe.surfaces import Values

Progress = Callable[[int, int], None]


def check_also(also: Any, objective: Objective) -> dict[str, Objective]:
    """Refuse anything but further objectives of the same network by name.

    Raises:
        SettingError: another network, or a name that is no identifier or taken.
    """
    if also is None:
        return {}
    if not isinstance(also, Mapping):
        raise SettingError(
            "also must be objectives by name, such as {'test': test_objective}, got "
            f"{brief(also)}."
        )
    for name, other in also.items():
        if not isinstance(name, str) or not name.isidentifier() or name in TAKEN:
            raise SettingError(
                f"names in also must be words such as 'test', got {brief(name)}."
            )
        if not isinstance(other, Objective) or other.model is not objective.model:
            raise SettingError(
                f"{name} in also must be a steppe.Objective of the same model object "
                "as the first, which is moved for both."
            )
    return dict(also)


def check_names(evaluator: Evaluator, chosen: Chosen, also: Iterable[str]) -> None:
    """Refuse quantities of one surface that would have the same name.

    Args:
        evaluator: with the means over samples.
        chosen: quantities that were asked for.
        also: names of further objectives.

    Raises:
        SettingError: a name that two of them have.
    """
    means = [quantity.name for quantity in evaluator.quantities]
    names = [*means, *(quantity.name for quantity in chosen.of_points())]
    names += [f"{name}_{key}" for name in also for key in ("loss", *means)]
    for name in names:
        if names.count(name) > 1:
            raise SettingError(
                f"every quantity must have a name of its own, but two are {name!r}; "
                "name one of them, or the objective in also, otherwise."
            )


class Stages:
    """Progress of work that is done in several stages, each with a total of its own.

    Args:
        progress: called with the number done and that of all so far; or None.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._before = self._last = 0

    def begun(self) -> Progress | None:
        """The progress of the next stage."""
        self._before, self._last = self._before + self._last, 0
        return None if self._progress is None else self._report

    def _report(self, done: int, total: int) -> None:
        assert self._progress is not None
        self._last = total
        self._progress(self._before + done, self._before + total)


def of_points(
    evaluator: Evaluator,
    grid: Grid,
    quantities: Sequence[Known | PointQuantity],
    every: int,
    progress: Progress | None = None,
) -> tuple[dict[str, Values], dict[str, Any]]:
    """Quantities of the whole objective on a coarser grid of the same surface.

    Args:
        evaluator: of the loss, whose samples and buffers these quantities have too.
        grid: of the surface.
        quantities: to evaluate.
        every: distance of two points along each axis, in steps of the grid; a grid with
            the base point has it.
        progress: called with the number of points done and of all.

    Returns:
        Values by name, NaN where they were not evaluated; and for the details, at how
        many points one of them was refused or did not converge.

    Raises:
        SteppeError: a quantity that is refused at every point.
    """
    if not quantities:
        return {}, {}
    sides = zip(grid.counts, grid.bases, strict=True)
    places = list(
        itertools.product(*(range((base or 0) % every, n, every) for n, base in sides))
    )
    estimates: dict[str, dict[Place, Estimate]] = {q.name: {} for q in quantities}
    refusals: dict[str, list[SteppeError]] = {q.name: [] for q in quantities}
    objective = evaluator.part.objective
    with Walk(objective, evaluator.subspace, evaluator.batch_norm).begun() as walk:
        for done, place in enumerate(places, 1):
            point = grid.point(place)
            walk.go_to(point, walk.buffers_at(point))
            there = Here(objective)
            for quantity in quantities:
                try:
                    estimates[quantity.name][place] = quantity.at(there)
                except SteppeError as error:
                    refusals[quantity.name].append(error)
            if progress is not None:
                progress(done, len(places))
    for errors in refusals.values():
        if len(errors) == len(places):
            raise errors[0]
    values = {q.name: _values(q.units, estimates[q.name], grid) for q in quantities}
    doubts = {
        name: {
            "refused": len(refusals[name]),
            "not_converged": sum(not each.converged for each in of_name.values()),
        }
        for name, of_name in estimates.items()
    }
    doubted = {name: each for name, each in doubts.items() if any(each.values())}
    return values, {"every": every, **({"doubts": doubted} if doubted else {})}


def _values(units: str, estimates: Mapping[Place, Estimate], grid: Grid) -> Values:
    values = torch.full(grid.counts, math.nan, dtype=torch.float64, device="cpu")
    errors = values.clone()
    for place, estimate in estimates.items():
        values[place], errors[place] = estimate.value, estimate.stderr
        units = units or estimate.units
    sampled = bool((errors > 0).any())
    last_first = tuple(reversed(range(values.dim())))
    return Values(
        values=values.permute(last_first).contiguous(),
        stderr=errors.permute(last_first).contiguous() if sampled else None,
        units=units,
    )


def evaluator_of_others(
    evaluator: Evaluator, other: Objective, quantities: Chosen
) -> Evaluator:
    """The evaluator of other data at the points of a first evaluator.

    Where running statistics are re-estimated, they are those of the first data: the
    network is the same one.

    Args:
        evaluator: of the first objective.
        other: objective of the same network.
        quantities: of which means over samples are evaluated on it too.
    """
    batch_norm = evaluator.batch_norm
    if batch_norm == "reestimate" and evaluator.objective.mode != "train":
        batch_norm = partial(refit, evaluator.part.objective)
    return Evaluator(
        other,
        evaluator.subspace,
        batch_norm,
        quantities.of_samples(other),
        samples=evaluator.samples,
        seed=evaluator.seed,
        strategy=evaluator.way,
        dtype=evaluator.dtype,
        compile=evaluator.compile,
    )
