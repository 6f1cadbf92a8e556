"""Barriers between every two of several networks: who shares a basin?

The barrier of a pair is that of the measure of this name, on the straight line as they
are and with the units of the second network in the order of the first, and along a
curve that was fitted between them.

Source: Garipov et al., 2018, arXiv:1802.10026 (curves); the measure `Barrier` has those
of the lines.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from steppe.errors import (
    SettingError,
    UsageError,
    brief,
    check_callable,
    check_choice,
    check_integer,
)
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.curve import Curve
from steppe.measures import Barrier, refused
from steppe.measures.measurement import Measurement, Weights
from steppe.measures.needs.points.paths import BatchNorm, PathLosses
from steppe.measures.pairs.barrier import height
from steppe.objective import Objective, check_objective
from steppe.parameters import BufferSnapshot, load_, restored
from steppe.results import Barriers, Cost, Estimate
from steppe.results.barriers import Pair, named_networks
from steppe.state_dicts import check_shapes, tensors_of

PathName = Literal["straight", "matched", "curve"]
State = Mapping[str, Tensor]
MakeCurve = Callable[[nn.Module, nn.Module], Curve]


@dataclass(frozen=True)
class Between:
    """One barrier: of which networks, by their names, along which path."""

    first: str
    second: str
    path: PathName


class Known(Protocol):
    """Barriers that need not be measured again, such as a dictionary or a file."""

    def __contains__(self, between: object, /) -> bool:
        """Whether the barrier is known."""

    def __getitem__(self, between: Between, /) -> Estimate:
        """The barrier."""

    def __setitem__(self, between: Between, barrier: Estimate, /) -> None:
        """Remember a barrier."""


def barriers(
    objective: Objective,
    networks: Mapping[str, Weights] | Sequence[Weights],
    *,
    paths: Sequence[PathName] | None = None,
    curve: MakeCurve | None = None,
    points: int = 25,
    batch_norm: BatchNorm = "reestimate",
    seed: int = 0,
    known: Known | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Barriers:
    """Barriers of the loss between every two of N networks.

    A barrier is the largest rise of the loss above the chord between two networks; see
    the measure `Barrier`. Each pair is measured once, with the network named first at
    the start; where the other way would give another number, as weight matching may,
    that is not looked at.

    It costs N (N - 1) / 2 times `points` passes over the data for each path, as many
    again where batch norm is re-estimated, and the fits of the curves.

    Args:
        objective: the mean loss; its model gives the structure of all networks, and
            comes back bit for bit.
        networks: two or more of that structure, or their state_dicts, by name or in a
            list, whose names are then "1", "2" and so on.
        paths: "straight" for the line; "matched" for the line to the second network
            with its units in the order of the first; "curve" for that of `curve`. None
            for all of them that are possible.
        curve: makes a curve from the two networks of a pair, such as
            `lambda a, b: Curve.bezier(a, b).fit(objective, steps=500)`.
        points: of each path, both ends included.
        batch_norm: running statistics at a point; see `Barrier`. "freeze" would have
            the pairs depend on their order, and is not among them.
        seed: of weight matching.
        known: barriers that were measured before, and where new ones are kept.
        progress: called with the number of barriers done and of all.

    Returns:
        Barriers with matrices, errors, clusters and a table. A path that a pair does
        not allow says so in `refusal`.

    Raises:
        SettingError: fewer than two networks, or some of another structure; an unknown
            path, or a curve without a function that makes it.
    """
    check_objective(objective, "barriers")
    check_integer("seed", seed)
    check_choice("batch_norm", batch_norm, ("reestimate", "interpolate"))
    ways = _checked_paths(paths, curve)
    named = _checked_networks(objective, networks)
    line = Barrier(points=points, batch_norm=batch_norm)
    work = _Work(objective, line, curve, seed)
    pairs = itertools.combinations(named, 2)
    asked = [Between(a, b, path) for a, b in pairs for path in ways]
    store: Known = {} if known is None else known
    by_path: dict[str, dict[Pair, Estimate]] = {path: {} for path in ways}
    with _put_back(objective.model):
        for done, between in enumerate(asked, 1):
            first, second = between.first, between.second
            if between not in store:
                store[between] = work.measured(
                    named[first], named[second], between.path
                )
            by_path[between.path][first, second] = store[between]
            if progress is not None:
                progress(done, len(asked))
    return Barriers(
        names=tuple(named),
        paths=by_path,
        details={
            **objective.details,
            "points": points,
            "batch_norm": batch_norm,
            "seed": seed,
        },
    )


class _Work:
    """Barriers of pairs, with the model of an objective at the first network."""

    def __init__(
        self,
        objective: Objective,
        line: Barrier,
        make: MakeCurve | None,
        seed: int,
    ) -> None:
        self.objective = objective
        self.line = line
        self.make = make
        self.seed = seed

    def measured(self, first: State, second: State, path: PathName) -> Estimate:
        """The barrier of a pair along a path; one that is refused says why."""
        load_(self.objective.model, first)
        measure = dataclasses.replace(self.line, matched=path == "matched")
        try:
            if path == "curve":
                return self._on_curve(second)
            pair = Measurement(self.objective, self.seed, other=second)
            return measure.within(pair)
        except UsageError as error:
            return refused(measure, error)

    def _on_curve(self, second: State) -> Estimate:
        objective = self.objective
        before = objective.cost
        a, b = copy.deepcopy(objective.model), copy.deepcopy(objective.model)
        load_(b, second)
        assert self.make is not None
        curve = self.make(a, b)
        if not isinstance(curve, Curve):
            raise SettingError(
                "curve must be a function of two networks that returns a steppe.Curve, "
                f"such as Curve.bezier(a, b).fit(...); it returned {brief(curve)}."
            )
        last = self.line.points - 1
        path = [i / last for i in range(self.line.points)]
        points = _losses_on(objective, curve, path, self.line.batch_norm)
        barrier = height(path, points, objective)
        return dataclasses.replace(
            barrier,
            cost=(objective.cost - before).rounded(),
            units=self.line.units,
            details={
                **objective.details,
                "points": self.line.points,
                "batch_norm": self.line.batch_norm,
                **curve.details,
                "length": curve.length(),
                **barrier.details,
            },
        )


def _losses_on(
    objective: Objective, curve: Curve, path: Sequence[float], batch_norm: BatchNorm
) -> list[PathLosses]:
    """Losses at points of a curve, as those on the line to a second network."""
    curve.check_belongs(objective)
    count = len(objective.batches)
    objective.check_repeatable()
    terms = objective.count()
    points = []
    with Walk(objective, curve, batch_norm).begun() as walk:
        for point in ((t,) for t in path):
            buffers, batches = walk.buffers_at(point), []
            for index in range(count):
                walk.go_to(point, buffers)
                batches.append(objective.batch_values(index).double())
            objective.cost += Cost(forwards=1)
            total = float(torch.stack([each.sum() for each in batches]).sum())
            points.append(PathLosses(batches, total / terms + walk.penalty_at(point)))
    return points


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Parameters and buffers of a model as before at the end, bit for bit."""
    buffers = BufferSnapshot(model)
    with restored(list(model.parameters())):
        try:
            yield
        finally:
            buffers.put_back()


def _checked_paths(
    paths: Sequence[PathName] | None, curve: MakeCurve | None
) -> tuple[PathName, ...]:
    every: tuple[PathName, ...] = get_args(PathName)
    if curve is not None:
        check_callable("curve", curve, "makes a curve from two networks")
    possible = every if curve is not None else every[:-1]
    chosen = possible if paths is None else tuple(dict.fromkeys(paths))
    if not chosen:
        raise SettingError(f"paths must be some of {', '.join(every)}, got none.")
    for path in chosen:
        check_choice("paths", path, every)
    if "curve" in chosen and curve is None:
        raise SettingError(
            "the path 'curve' needs curve=, a function that makes one, such as "
            "lambda a, b: Curve.bezier(a, b).fit(objective, steps=500)."
        )
    return chosen


def _checked_networks(
    objective: Objective, networks: Mapping[str, Weights] | Sequence[Weights]
) -> dict[str, State]:
    """Tensors of all networks by the names of the objective's model."""
    if not isinstance(networks, Mapping | Sequence) or isinstance(networks, str):
        raise SettingError(
            "networks must be two or more networks or their state_dicts, by name or in "
            f"a list, got {brief(networks)}."
        )
    if not isinstance(networks, Mapping):
        networks = {str(i): each for i, each in enumerate(networks, 1)}
    own = objective.model.state_dict()
    states: dict[str, State] = {}
    for name in named_networks(networks):
        state = tensors_of(f"network {name}", networks[name], own)
        check_shapes(f"network {name}", own, state)
        # Copies: one of them may be the model that is moved.
        states[name] = {key: state[key].detach().clone() for key in own}
    return states
