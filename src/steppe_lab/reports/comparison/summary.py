"""A comparison in few numbers: means over seeds, and differences between optimizers.

Everything that reports a comparison in words, in a table or on a page starts here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from steppe_lab.reports.comparison.quantities import (
    TRAIN_HEADLINE,
    TRAIN_LOSS,
    Quantity,
    Value,
    quantities,
    read,
    refusal_of,
)
from steppe_lab.reports.text.numbers import listed, one_or_more
from steppe_lab.statistics.error_rates import (
    agreed_difference,
    agreed_rate,
    error_difference,
    error_rate,
)
from steppe_lab.statistics.holm import holm
from steppe_lab.statistics.intervals import (
    Interval,
    mean_interval,
    paired_difference,
    paired_ratio,
)
from steppe_lab.studies.rows import Comparison
from steppe_lab.tasks.learning import has_learnt

MATCHED = 1.5  # train losses surely within this factor count as the same,
APART = 0.05  # if train errors are within this share of each other
WORTH = 0.1  # of the first one's error or loss: a smaller gain is not worth naming
LEARNT = 0.5  # networks whose train error is not lower have hardly learnt


@dataclass(frozen=True)
class Cell:
    """One quantity of one optimizer."""

    values: Mapping[int, Value]  # by seed; only finite ones
    mean: Interval | None  # over seeds; None without any value
    stderr: float  # mean of the runs' own standard errors; 0.0 when nothing was sampled


@dataclass(frozen=True)
class Change:
    """A quantity of one optimizer against that of another, paired by seed."""

    interval: Interval
    scale: Literal["difference", "ratio"]
    converged: bool = True  # every estimate behind it
    share: bool = False  # of a share: its difference is shown in points
    clear: bool = False  # that there is a difference, among all comparisons
    among: int = 1  # comparisons that `clear` allows for

    @property
    def none(self) -> float:
        """The value that means no difference: a ratio of 1, a gap of 0."""
        return 1.0 if self.scale == "ratio" else 0.0

    @property
    def alone(self) -> bool:
        """Whether it would be clear only if nothing else had been compared."""
        return not self.clear and self.interval.excludes(self.none)

    @property
    def noise(self) -> bool:
        """Whether the interval includes that there is no difference."""
        return self.interval.count > 1 and not (self.clear or self.alone)

    @property
    def agreed(self) -> bool:
        """Whether all seeds have this very difference, so that no interval is known."""
        return self.interval.count > 1 and self.interval.low == self.interval.high

    @property
    def lower(self) -> bool:
        """Whether the mean is below no difference."""
        return self.interval.mean < self.none


@dataclass(frozen=True)
class Contender:
    """One optimizer: how many runs, at which cost, with which numbers."""

    optimizer: str
    runs: int  # finished
    gradients: float | None  # of the whole batch per step, mean; None without a run
    cells: Mapping[str, Cell]  # by key of the quantity
    epochs: tuple[int, int] | None  # fewest and most; None where no rule ended any
    learnt: bool  # whether less than half of training samples are wrong, in the mean


@dataclass(frozen=True)
class Versus:
    """One optimizer against the first one."""

    optimizer: str
    changes: Mapping[str, Change]  # by key; only what can be compared
    price: float | None  # gradients per step against the first one's
    learnt: bool  # both of them

    @property
    def matched(self) -> bool:
        """Whether train losses are surely within a factor of 1.5, errors 5 points."""
        loss, error = map(self.changes.get, (TRAIN_LOSS, TRAIN_HEADLINE))
        if loss is None or error is None or loss.scale != "ratio" or not self.learnt:
            return False
        ratio = loss.interval
        ends = (ratio.low, ratio.high) if ratio.count > 1 else (ratio.mean,) * 2
        near = ends[0] >= 1 / MATCHED and ends[1] <= MATCHED
        # Other metrics have no scale on which to say how far apart is far.
        return near and (not error.share or abs(error.interval.mean) <= APART)


@dataclass(frozen=True)
class Summary:
    """A comparison in numbers: optimizers, their differences, and doubts."""

    first: str  # what the others are compared with
    quantities: tuple[Quantity, ...]
    contenders: tuple[Contender, ...]
    versus: tuple[Versus, ...]  # for every optimizer but the first
    held_out: Literal["test", "validation"]
    planned: int  # networks that were to be trained
    finished: int
    failures: tuple[str, ...]
    doubts: tuple[str, ...]  # estimates that are unconverged or not finite
    unlike: tuple[str, ...]  # differences between optimizers besides their methods

    def contender(self, optimizer: str) -> Contender:
        """The numbers of one optimizer."""
        return next(
            contender
            for contender in self.contenders
            if contender.optimizer == optimizer
        )

    def quantity(self, key: str) -> Quantity:
        """A quantity by its key."""
        return next(each for each in self.quantities if each.key == key)

    def comparisons(self, key: str) -> int:
        """How many comparisons a verdict on a quantity allows for."""
        counts = [v.changes[key].among for v in self.versus if key in v.changes]
        return max(counts, default=0)

    def clear_best(self, key: str) -> str | None:
        """The optimizer that is better in a quantity than every other beyond noise."""
        quantity = self.quantity(key)
        filled = [
            contender
            for contender in self.contenders
            if contender.cells[key].mean is not None
        ]
        # A network that has learnt nothing is flat for no merit of its own.
        unlearnt = quantity.measured and not all(
            contender.learnt for contender in filled
        )
        if len(filled) < 2 or unlearnt or not quantity.ranked:
            return None
        sign = 1 if quantity.better == "smaller" else -1
        best = min(filled, key=lambda contender: sign * _mean(contender.cells[key]))
        others = [contender for contender in filled if contender is not best]
        family = [q for q in self.quantities if q.family == quantity.family]
        # The best was chosen by its numbers, so it has to beat each of the others.
        changes = _compared(others, best, family)
        clear = all(key in c and c[key].clear for c in changes.values())
        return best.optimizer if clear else None


def summarise(comparison: Comparison) -> Summary:
    """Means with 95 % t intervals over seeds, and paired differences to the first."""
    reported = quantities(comparison)
    settings = comparison.settings
    contenders = tuple(
        _contender(comparison, name, reported) for name in settings.optimizers
    )
    changes = _compared(contenders[1:], contenders[0], reported)
    return Summary(
        first=settings.optimizers[0],
        quantities=reported,
        contenders=contenders,
        versus=tuple(
            _versus(contender, contenders[0], changes[contender.optimizer])
            for contender in contenders[1:]
        ),
        held_out=settings.held_out,
        planned=settings.runs,
        finished=len(comparison.rows),
        failures=comparison.failures,
        doubts=tuple(_doubts(comparison, reported)),
        unlike=tuple(_unlike(comparison)),
    )


def _change(
    contender: Contender, first: Contender, quantity: Quantity
) -> Change | None:
    """Over the seeds both have; a ratio where all are positive. Not judged yet."""
    left, right = (each.cells[quantity.key] for each in (contender, first))
    seeds = sorted(set(left.values) & set(right.values))
    if not seeds:
        return None
    pairs = [(left.values[seed], right.values[seed]) for seed in seeds]
    converged = all(a.converged and b.converged for a, b in pairs)
    known = [
        (a.wrong, b.wrong)
        for a, b in pairs
        if a.wrong is not None and b.wrong is not None
    ]
    if len(known) == len(pairs):
        ours, theirs = zip(*known, strict=True)
        gap = error_difference(ours, theirs, pairs[0][0].samples)
        return Change(gap, "difference", converged, quantity.share)
    ours, theirs = zip(*((a.value, b.value) for a, b in pairs), strict=True)
    # Errors are compared by difference: from 0.1 to 0.05 % is half, and no gain.
    ratio = None if quantity.share else paired_ratio(ours, theirs)
    if ratio is not None:
        return Change(ratio, "ratio", converged)
    gap = paired_difference(ours, theirs)
    samples = pairs[0][0].samples
    if quantity.share and samples and gap.count > 1 and gap.half_width == 0:
        gap = agreed_difference(gap.mean, samples, gap.count)
    return Change(gap, "difference", converged, quantity.share)


def _compared(
    contenders: Sequence[Contender], first: Contender, judged: Sequence[Quantity]
) -> dict[str, dict[str, Change]]:
    """Changes against one, by optimizer and key, judged family by family."""
    # Families are judged apart: who asks for test error has not asked for ten measures.
    against: dict[str, dict[str, Change]] = {
        contender.optimizer: {} for contender in contenders
    }
    for family in dict.fromkeys(quantity.family for quantity in judged):
        changes = {
            (contender.optimizer, quantity.key): compared
            for contender in contenders
            for quantity in judged
            if quantity.family == family
            and (compared := _change(contender, first, quantity)) is not None
        }
        p = {at: c.interval.p for at, c in changes.items() if c.interval.count > 1}
        clear = holm(p)
        for at, change in changes.items():
            against[at[0]][at[1]] = replace(change, clear=at in clear, among=len(p))
    return against


def _contender(
    comparison: Comparison, name: str, reported: tuple[Quantity, ...]
) -> Contender:
    rows = comparison.of(name)
    cells = {}
    for quantity in reported:
        values = {row.seed: read(quantity, row, comparison) for row in rows}
        cells[quantity.key] = _cell(values)
    gradients = fmean(row.gradients for row in rows) if rows else None
    (train,) = (q for q in reported if q.key == TRAIN_HEADLINE)
    lengths = [int(row.last["epoch"]) for row in rows]
    ended = lengths and any(row.stopped for row in comparison.rows)
    return Contender(
        optimizer=name,
        runs=len(rows),
        gradients=gradients,
        cells=cells,
        epochs=(min(lengths), max(lengths)) if ended else None,
        learnt=_has_learnt(train, cells[train.key].mean),
    )


def _has_learnt(train: Quantity, mean: Interval | None) -> bool:
    """Whether a share says so; other metrics have no value that tells."""
    if not train.share or mean is None:
        return True
    return has_learnt(mean.mean, LEARNT, train.better)


def _cell(values: Mapping[int, Value]) -> Cell:
    finite = {seed: v for seed, v in values.items() if math.isfinite(v.value)}
    errors = [v.stderr for v in finite.values() if math.isfinite(v.stderr)]
    mean = _mean_of(list(finite.values())) if finite else None
    return Cell(finite, mean, sum(errors) / len(errors) if errors else 0.0)


def _mean_of(values: Sequence[Value]) -> Interval:
    """Over seeds, and over samples where these are known."""
    samples = values[0].samples
    wrong = [value.wrong for value in values if value.wrong is not None]
    if len(wrong) == len(values):
        return error_rate(wrong, samples)
    mean = mean_interval([value.value for value in values])
    if samples and mean.count > 1 and mean.half_width == 0:
        return agreed_rate(mean.mean, samples, mean.count)
    return mean


def _versus(
    contender: Contender, first: Contender, changes: Mapping[str, Change]
) -> Versus:
    price = None
    if contender.gradients and first.gradients:
        price = contender.gradients / first.gradients
    # Either one alone makes the flatness of both incomparable.
    learnt = contender.learnt and first.learnt
    return Versus(contender.optimizer, changes, price, learnt)


def _doubts(comparison: Comparison, reported: tuple[Quantity, ...]) -> list[str]:
    doubts = _refusals(comparison, reported)
    for row in comparison.rows:
        for quantity in reported:
            if quantity.key.startswith("excess:"):
                continue  # its measure is named already
            value, who = (
                read(quantity, row, comparison),
                f"{row.optimizer}, seed {row.seed}",
            )
            if quantity.measured and refusal_of(quantity, row):
                continue
            if not math.isfinite(value.value):
                doubts.append(f"{quantity.title} of {who} is not finite and left out")
            elif not value.converged:
                doubts.append(f"{quantity.title} of {who} did not converge")
    return doubts


def _refusals(comparison: Comparison, reported: tuple[Quantity, ...]) -> list[str]:
    """Measures that networks do not allow; the networks of one reason are counted."""
    # One reason for nine networks is one sentence.
    counts: Counter[tuple[str, str]] = Counter()
    for quantity in reported:
        if quantity.key.startswith("measure:"):
            reasons = (refusal_of(quantity, row) for row in comparison.rows)
            counts.update((quantity.title, reason) for reason in reasons if reason)
    return [
        f"{title} was not measured for {one_or_more(count, 'network')}: {reason}"
        for (title, reason), count in counts.items()
    ]


def _unlike(comparison: Comparison) -> list[str]:
    """Settings of the same base optimizer that differ from the first one's."""
    first, *others = comparison.settings.optimizers
    ours = _base(comparison, first)
    differences: dict[tuple[str, str], list[str]] = {}
    for other in others:
        theirs = _base(comparison, other)
        # Another base is named already, and its settings have no counterparts.
        if not ours or ours["name"] != theirs.get("name"):
            continue
        for key, value in theirs["settings"].items():
            mine = ours["settings"].get(key)
            if mine != value:
                pair = (f"{key} = {value}", f"{key} = {mine}")
                differences.setdefault(pair, []).append(other)
    return [
        f"{listed(names)} {'steps' if len(names) == 1 else 'step'} with {theirs}, "
        f"{first} with {mine}"
        for (theirs, mine), names in differences.items()
    ]


def _base(comparison: Comparison, optimizer: str) -> Mapping[str, Any]:
    rows = comparison.of(optimizer)
    return (rows[0].settings.get("base") or {}) if rows else {}


def _mean(cell: Cell) -> float:
    return cell.mean.mean if cell.mean is not None else math.inf
