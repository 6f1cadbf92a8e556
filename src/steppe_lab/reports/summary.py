"""A comparison in few numbers: means over seeds, and differences between optimizers.

Everything that reports a comparison in words, in a table or on a page starts here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steppe_lab.reports.numbers import listed
from steppe_lab.reports.quantities import (
    TRAIN_LOSS,
    Quantity,
    Value,
    quantities,
    read,
)
from steppe_lab.statistics.intervals import (
    Interval,
    error_difference,
    mean_interval,
    paired_difference,
    paired_ratio,
)
from steppe_lab.studies.compare import Comparison

MATCHED = 1.5  # train losses within this factor count as the same


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

    @property
    def none(self) -> float:
        """What no difference would be."""
        return 1.0 if self.scale == "ratio" else 0.0

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out that there is no difference."""
        return self.interval.count > 1 and self.interval.excludes(self.none)

    @property
    def lower(self) -> bool:
        """Whether the mean is below no difference."""
        return self.interval.mean < self.none


@dataclass(frozen=True)
class Line:
    """One optimizer: how many runs, at which cost, with which numbers."""

    optimizer: str
    runs: int  # finished
    gradients: float | None  # of the whole batch per step; None without a run
    cells: Mapping[str, Cell]  # by key of the quantity


@dataclass(frozen=True)
class Versus:
    """One optimizer against the first one."""

    optimizer: str
    changes: Mapping[str, Change]  # by key; only what can be compared
    price: float | None  # gradients per step against the first one's

    @property
    def matched(self) -> bool:
        """Whether train losses are within a factor of 1.5 of each other."""
        change = self.changes.get(TRAIN_LOSS)
        if change is None or change.scale != "ratio":
            return False
        return 1 / MATCHED <= change.interval.mean <= MATCHED


@dataclass(frozen=True)
class Summary:
    """What a comparison found."""

    first: str  # what the others are compared with
    quantities: tuple[Quantity, ...]
    lines: tuple[Line, ...]
    versus: tuple[Versus, ...]  # for every optimizer but the first
    held_out: Literal["test", "validation"]
    planned: int  # networks that were to be trained
    finished: int
    failures: tuple[str, ...]
    doubts: tuple[str, ...]  # estimates that are unconverged or not finite
    unlike: tuple[str, ...]  # differences between optimizers besides their methods

    def line(self, optimizer: str) -> Line:
        """What was found of one optimizer."""
        return next(line for line in self.lines if line.optimizer == optimizer)

    def quantity(self, key: str) -> Quantity:
        """A quantity by its key."""
        return next(found for found in self.quantities if found.key == key)

    def clear_best(self, key: str) -> str | None:
        """The optimizer that is better in a quantity than every other beyond noise."""
        quantity = self.quantity(key)
        filled = [line for line in self.lines if line.cells[key].mean is not None]
        if len(filled) < 2:
            return None
        sign = 1 if quantity.better == "smaller" else -1
        best = min(filled, key=lambda line: sign * _mean(line.cells[key]))
        for other in filled:
            if other is best:
                continue
            found = change(best.cells[key], other.cells[key], quantity)
            if found is None or not found.clear:
                return None
        return best.optimizer


def summarise(comparison: Comparison) -> Summary:
    """Means with 95 % t intervals over seeds, and paired differences to the first."""
    found = quantities(comparison)
    settings = comparison.settings
    lines = tuple(_line(comparison, name, found) for name in settings.optimizers)
    return Summary(
        first=settings.optimizers[0],
        quantities=found,
        lines=lines,
        versus=tuple(_versus(line, lines[0], found) for line in lines[1:]),
        held_out=settings.held_out,
        planned=settings.runs,
        finished=len(comparison.rows),
        failures=comparison.failures,
        doubts=tuple(_doubts(comparison, found)),
        unlike=tuple(_unlike(comparison)),
    )


def change(left: Cell, right: Cell, quantity: Quantity) -> Change | None:
    """Left against right over the seeds both have; a ratio where all are positive."""
    seeds = sorted(set(left.values) & set(right.values))
    if not seeds:
        return None
    wrong = [(left.values[seed].wrong, right.values[seed].wrong) for seed in seeds]
    known = [
        (ours, theirs)
        for ours, theirs in wrong
        if ours is not None and theirs is not None
    ]
    if len(known) == len(seeds):
        samples = left.values[seeds[0]].samples
        ours, theirs = zip(*known, strict=True)
        return Change(error_difference(ours, theirs, samples), "difference")
    a = [left.values[seed].value for seed in seeds]
    b = [right.values[seed].value for seed in seeds]
    ratio = None if quantity.share else paired_ratio(a, b)
    if ratio is not None:
        return Change(ratio, "ratio")
    return Change(paired_difference(a, b), "difference")


def _line(comparison: Comparison, name: str, found: tuple[Quantity, ...]) -> Line:
    rows = comparison.of(name)
    cells = {}
    for quantity in found:
        values = {row.seed: read(quantity, row) for row in rows}
        cells[quantity.key] = _cell(values)
    return Line(name, len(rows), rows[0].gradients if rows else None, cells)


def _cell(values: Mapping[int, Value]) -> Cell:
    kept = {seed: v for seed, v in values.items() if math.isfinite(v.value)}
    errors = [v.stderr for v in kept.values() if math.isfinite(v.stderr)]
    mean = mean_interval([v.value for v in kept.values()]) if kept else None
    return Cell(kept, mean, sum(errors) / len(errors) if errors else 0.0)


def _versus(line: Line, first: Line, found: tuple[Quantity, ...]) -> Versus:
    changes = {}
    for quantity in found:
        key = quantity.key
        compared = change(line.cells[key], first.cells[key], quantity)
        if compared is not None:
            changes[key] = compared
    price = None
    if line.gradients and first.gradients:
        price = line.gradients / first.gradients
    return Versus(line.optimizer, changes, price)


def _doubts(comparison: Comparison, found: tuple[Quantity, ...]) -> list[str]:
    told = []
    for row in comparison.rows:
        for quantity in found:
            if quantity.key.startswith("excess:"):
                continue  # told of the measure it comes from
            value, who = read(quantity, row), f"{row.optimizer}, seed {row.seed}"
            if not math.isfinite(value.value):
                told.append(f"{quantity.title} of {who} is not finite and left out")
            elif not value.converged:
                told.append(f"{quantity.title} of {who} did not converge")
    return told


def _unlike(comparison: Comparison) -> list[str]:
    """Settings of the same base optimizer that differ from the first one's."""
    first, *others = comparison.settings.optimizers
    ours = _base(comparison, first)
    found: dict[tuple[str, str], list[str]] = {}
    for other in others:
        theirs = _base(comparison, other)
        if not ours or ours["name"] != theirs.get("name"):
            continue
        for key, value in theirs["settings"].items():
            mine = ours["settings"].get(key)
            if mine != value:
                pair = (f"{key} = {value}", f"{key} = {mine}")
                found.setdefault(pair, []).append(other)
    return [
        f"{listed(names)} {'steps' if len(names) == 1 else 'step'} with {theirs}, "
        f"{first} with {mine}"
        for (theirs, mine), names in found.items()
    ]


def _base(comparison: Comparison, optimizer: str) -> Mapping[str, Any]:
    rows = comparison.of(optimizer)
    return (rows[0].settings.get("base") or {}) if rows else {}


def _mean(cell: Cell) -> float:
    return cell.mean.mean if cell.mean is not None else math.inf
