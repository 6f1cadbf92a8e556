"""The loss and other quantities at points of a subspace.

Every batch is loaded once and evaluated at all points. The values at a point are a
function of the objective and the point alone: they have the same bits whichever other
points are evaluated, in one call or in several.

Memory, beside the model and the data: the directions and the networks that are met bit
for bit, the losses at the base point and those of one batch, sums of each point, at
most 256 MiB of buffers of points, 16 MiB of losses that wait to be summed, and with a
shared first layer its outputs on one batch for each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, nn

from steppe.errors import check_choice, check_integer, check_switch
from steppe.landscapes.buffers import BatchNorm, check_batch_norm, mode_of
from steppe.landscapes.evaluation.first_layer import FirstLayer, Profile, may_share
from steppe.landscapes.evaluation.moments import BaseValues, Moments
from steppe.landscapes.evaluation.precision import check_dtype, compiled, passes_in
from steppe.landscapes.evaluation.strategies import (
    LOSS,
    OneByOne,
    Strategy,
    Way,
)
from steppe.landscapes.evaluation.strategies import SampleQuantity as SampleQuantity
from steppe.landscapes.evaluation.subset import (
    Part,
    Samples,
    check_samples,
    evaluated_part,
)
from steppe.landscapes.evaluation.vmapped import fastest
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.measuring.batch_norm import has_statistics
from steppe.objective import Objective
from steppe.results import Cost

BYTES = 2**28  # of buffers of the points that are evaluated together
Progress = Callable[[int, int], None]  # evaluations of a batch done, and of all


@dataclass(frozen=True)
class PointValues:
    """Values at one point."""

    loss: float  # mean over the terms, and the penalty there
    stderr: float  # over the samples
    rise_stderr: float  # of the loss minus that at the base point
    subset_stderr: float = 0.0  # of that of a part of the samples, for all of them
    penalty: float = 0.0
    # Of each quantity beside the loss, the mean and its standard error.
    quantities: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Evaluator:
    """Evaluates points of a subspace.

    Args:
        objective: the mean loss; its model comes back bit for bit.
        subspace: of parameters with the names and shapes of those of the objective.
        batch_norm: running statistics and all other buffers at a point; None: those
            that the subspace is usually shown with; see `landscape`.
        quantities: beside the loss, means over samples.
        samples: that points are evaluated on; None or "all" for all of them.
        seed: of their draw.
        strategy: to compute the values of a batch at points; see `landscape`.
        dtype: of passes; None for that of the network.
        compile: compile passes with `torch.compile`.

    Raises:
        SettingError: an unknown mode or strategy, or a number of samples below 1.
    """

    def __init__(
        self,
        objective: Objective,
        subspace: Subspace,
        batch_norm: BatchNorm | None = None,
        quantities: Sequence[SampleQuantity] = (),
        *,
        samples: Samples = None,
        seed: int = 0,
        strategy: Way = "auto",
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ) -> None:
        self.objective = objective
        self.subspace = subspace
        self.batch_norm = subspace.batch_norm if batch_norm is None else batch_norm
        check_batch_norm(self.batch_norm)
        # A function may have the statistics of other data than those of the objective.
        if objective.mode == "reestimate" and not callable(self.batch_norm):
            self.batch_norm = "reestimate"
        self.quantities = tuple(quantities)
        check_samples(samples)
        check_integer("seed", seed)
        self.samples = samples
        self.seed = seed
        check_choice("strategy", strategy, get_args(Way))
        check_dtype(dtype, objective, subspace)
        check_switch("compile", compile)
        self.way = strategy
        self.dtype = dtype
        self.compile = compile
        self._part: Part | None = None
        self._layer: nn.Module | None = None  # whose outputs points share
        self._largest = 0  # bytes of the outputs of a layer
        self._used: str | None = None
        self._base: dict[str, BaseValues] = {}

    @property
    def details(self) -> dict[str, Any]:
        """Settings that the values follow from."""
        part = self.part.objective
        drawn = {"evaluated_terms": part.count(), "subset_seed": self.seed}
        return {
            **self.objective.details,
            **self._norm(),
            **({"dtype": "bfloat16"} if self.dtype else {}),
            "strategy": self._single,
            **(drawn if part.count() < self.objective.count() else {}),
        }

    @property
    def used(self) -> str:
        """The strategy that was used last, which a trial may have chosen."""
        return self._used or self._single

    @property
    def _single(self) -> str:
        """Name of the way for one point after the other."""
        return (FirstLayer if self._shares else OneByOne).name

    def _norm(self) -> dict[str, str]:
        if self.objective.mode == "train":  # each batch has statistics of its own
            return {}
        mode = mode_of(
            self.batch_norm,
            moving=self.subspace.moves_buffers,
            statistics=any(map(has_statistics, self.objective.model.modules())),
        )
        return {} if mode is None else {"batch_norm": mode}

    def evaluate(
        self, points: Sequence[Point], progress: Progress | None = None
    ) -> list[PointValues]:
        """Values at points, in their order; see the module for their bits.

        Args:
            points: coordinates, one for each axis.
            progress: called with the number of evaluations of a batch done and of all.

        Raises:
            DataError: no loss terms, or another number of them at one of the points.
        """
        if not points:
            return []
        part = self.part.objective
        with self._counting(part):
            with self._begun(part) as walk:
                strategy = self._strategy(walk, points)
                at_once = max(1, BYTES // max(1, walk.buffer_bytes))
                values: list[PointValues] = []
                for start in range(0, len(points), at_once):
                    tell = self._reporter(progress, start, len(points))
                    block = points[start : start + at_once]
                    values += self._evaluate(walk, strategy, block, tell)
                self._used = strategy.name
                return values

    @property
    def part(self) -> Part:
        """The data that points are evaluated on."""
        if self._part is None:
            self._part = self._prepare()
        return self._part

    @property
    def base_means(self) -> dict[str, float]:
        """Means at the base point, of all of the data: of the loss without a penalty,
        and of the quantities beside it, by name.
        """
        assert self.part
        return {name: base.mean for name, base in self._base.items()}

    @contextmanager
    def _counting(self, part: Objective) -> Iterator[None]:
        """Count passes over a part of the data as shares of passes over all of it."""
        before = part.cost
        try:
            yield
        finally:
            if part is not self.objective:
                share = part.count() / self.objective.count()
                self.objective.cost += (part.cost - before).scaled(share)

    @contextmanager
    def _begun(self, objective: Objective) -> Iterator[Walk]:
        with Walk(objective, self.subspace, self.batch_norm).begun() as walk:
            with passes_in(self.dtype, objective.device):
                yield walk

    def _prepare(self) -> Part:
        """Values at the base point: of all of the data, and of the evaluated part."""
        objective = self.objective
        objective.check_repeatable()
        whole = self._at_base(objective)
        terms = [len(losses) for losses in whole[LOSS]]
        part = evaluated_part(objective, self.samples, self.seed, terms)
        its = whole
        if part.objective is not objective:
            with self._counting(part.objective):
                its = self._at_base(part.objective)
        self._base = {
            name: BaseValues(
                batches=its[name],
                mean=float(torch.cat(values).mean()),
                terms=sum(map(len, values)),
            )
            for name, values in whole.items()
        }
        return part

    def _at_base(self, objective: Objective) -> dict[str, list[Tensor]]:
        origin = self.subspace.origin
        names = (LOSS, *(quantity.name for quantity in self.quantities))
        by_batch: dict[str, list[Tensor]] = {name: [] for name in names}
        with self._begun(objective) as walk:
            strategy = OneByOne(walk, self.quantities)
            profile = Profile(walk)
            buffers = walk.buffers_at(origin)
            for index in range(len(objective.batches)):
                walk.go_to(origin, buffers)
                batch = objective.batch(index)
                watched = index == 0 and may_share(walk)
                with profile.watching() if watched else nullcontext():
                    values = strategy.values(batch)
                for name, each in values.items():
                    by_batch[name].append(each.double())
            self._layer, self._largest = profile.layer(), profile.largest
        objective.cost += Cost(forwards=1)
        objective.note_terms(sum(map(len, by_batch[LOSS])))
        return by_batch

    def _evaluate(
        self,
        walk: Walk,
        strategy: Strategy,
        points: Sequence[Point],
        tell: Callable[[int], None],
    ) -> list[PointValues]:
        objective = walk.objective
        # Before the batches: re-estimated statistics need a pass over the data, and
        # all batches of a point have to see the same ones.
        buffers = [walk.buffers_at(point) for point in points]
        penalties = [walk.penalty_at(point) for point in points]
        # Batches in mode "train" share statistics and random draws.
        dependent = objective.mode == "train" or self.part.by_batch
        moments = {
            name: Moments(len(points), base, dependent=dependent)
            for name, base in self._base.items()
        }
        for index in range(len(objective.batches)):
            done = 0
            for number, values in strategy.on_batch(index, points, buffers):
                for name, each in values.items():
                    moments[name].add(index, done, each)
                done += number
                tell(index * len(points) + done)
        objective.cost += Cost(forwards=len(points))
        return self._collected(points, moments, penalties)

    def _reporter(
        self, progress: Progress | None, start: int, points: int
    ) -> Callable[[int], None]:
        batches = len(self.part.objective.batches)

        def tell(done: int) -> None:
            if progress is not None:
                progress(start * batches + done, points * batches)

        return tell

    def _strategy(self, walk: Walk, points: Sequence[Point]) -> Strategy:
        one_by_one = OneByOne(walk, self.quantities)
        if self.compile and not self.quantities:
            return compiled(walk, one_by_one)
        single: Strategy = one_by_one
        if self._shares:
            assert self._layer is not None
            single = FirstLayer(walk, one_by_one, self._layer)
        if self.way != "fastest" or self.quantities:
            return single
        return fastest(walk, single, points, self._largest)

    @property
    def _shares(self) -> bool:
        """Whether points share the work of a layer; known once the base point is."""
        return self.way != "one_by_one" and self._layer is not None

    def _collected(
        self,
        points: Sequence[Point],
        moments: Mapping[str, Moments],
        penalties: Sequence[float],
    ) -> list[PointValues]:
        means = {name: each.means().tolist() for name, each in moments.items()}
        errors = {
            name: each.variances().sqrt().tolist() for name, each in moments.items()
        }
        rises = moments[LOSS].rise_variances().sqrt().tolist()
        subset = moments[LOSS].subset_variances().sqrt().tolist()
        others = [name for name in moments if name != LOSS]
        for i, point in enumerate(points):
            # Of the same samples in another order of sums, it would differ in a bit.
            if self.subspace.is_base(point):
                for name, base in self._base.items():
                    # A part without samples of a class has no value anywhere.
                    if base.share:
                        means[name][i] = base.mean
        return [
            PointValues(
                loss=means[LOSS][i] + penalties[i],
                stderr=errors[LOSS][i],
                rise_stderr=rises[i],
                subset_stderr=subset[i],
                penalty=penalties[i],
                quantities={name: (means[name][i], errors[name][i]) for name in others},
            )
            for i in range(len(points))
        ]
