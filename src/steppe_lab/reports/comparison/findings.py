"""Findings of a comparison as data: a kind, its subject and its numbers.

No sentence is written here. `sentences` and `answer` render findings last, so that what
is said follows from numbers that a test can read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from steppe_lab.reports.comparison.quantities import (
    BEST,
    HEADLINE,
    TRAIN_HEADLINE,
    TRAIN_LOSS,
    Quantity,
)
from steppe_lab.reports.comparison.summary import WORTH, Change, Summary, Versus
from steppe_lab.statistics.intervals import Interval


@dataclass(frozen=True)
class HardlyLearnt:
    """An optimizer whose networks get most training samples wrong."""

    optimizer: str
    quantity: Quantity  # the headline on training samples
    share: float


@dataclass(frozen=True)
class Headline:
    """The headline metric of the first optimizer."""

    optimizer: str
    quantity: Quantity
    mean: Interval | None  # None without a finished run


@dataclass(frozen=True)
class SingleSeed:
    """Several optimizers, each run with one seed."""


@dataclass(frozen=True)
class HeadlineChange:
    """The headline metric of an optimizer against the first one's."""

    optimizer: str
    first: str
    quantity: Quantity
    mean: Interval | None  # None without a finished run
    change: Change | None  # None without a seed in common


@dataclass(frozen=True)
class BestEpochChange:
    """The metric at the best epoch, where it removes most of a clear difference."""

    optimizer: str
    first: str
    quantity: Quantity
    mean: Interval
    change: Change


@dataclass(frozen=True)
class FlatnessChanges:
    """Measures of flatness of an optimizer against the first one's; at least one."""

    optimizer: str
    first: str
    changes: tuple[tuple[Quantity, Change], ...]


@dataclass(frozen=True)
class Disagreement:
    """Measures of flatness that contradict each other beyond noise."""

    optimizer: str
    first: str
    flatter: tuple[Quantity, ...]
    sharper: tuple[Quantity, ...]


@dataclass(frozen=True)
class StepCost:
    """Gradients of one step, and their ratio to the first optimizer's."""

    optimizer: str
    first: str
    gradients: float
    price: float


@dataclass(frozen=True)
class OtherDifferences:
    """Settings besides the method in which optimizers differ."""

    differences: tuple[str, ...]


@dataclass(frozen=True)
class UnequalLengths:
    """Fewest and most epochs of each optimizer, where rules ended trainings."""

    epochs: tuple[tuple[str, tuple[int, int]], ...]


@dataclass(frozen=True)
class TrainLossGap:
    """Train loss of an optimizer that does not match the first one's."""

    optimizer: str
    loss: Change
    error_gap: float  # share of errors minus the first one's; 0.0 where there is none


@dataclass(frozen=True)
class Unmatched:
    """Optimizers whose flatness is not compared at matched train loss."""

    first: str
    gaps: tuple[TrainLossGap, ...]
    quantity: Quantity  # the headline on training samples


@dataclass(frozen=True)
class DoubtfulEstimates:
    """Estimates that are unconverged, refused or not finite."""

    estimates: tuple[str, ...]


@dataclass(frozen=True)
class UnfinishedRuns:
    """Planned runs that are left out."""

    planned: int
    finished: int
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Flatness:
    """Measures of flatness of one optimizer, by their verdict beyond noise."""

    flatter: tuple[Quantity, ...]
    sharper: tuple[Quantity, ...]
    compared: int  # measures that both optimizers have
    unconverged: tuple[Quantity, ...]  # of those flatter or sharper


# "some": beyond noise; "none": one worth naming is excluded; "open": neither.
Gain = Literal["some", "none", "open"]


@dataclass(frozen=True)
class Verdict:
    """Flatness, headline and price of one optimizer against the first."""

    optimizer: str
    first: str
    quantity: Quantity  # the headline
    change: Change | None
    flatness: Flatness
    unlearnt: tuple[HardlyLearnt, ...]  # of the two; the optimizer's own first
    matched: bool
    gain: Gain
    stopping: bool  # most of the change is gone at the best epochs
    price: float


@dataclass(frozen=True)
class Verdicts:
    """The answer: a verdict on every optimizer but the first, and what to mind."""

    verdicts: tuple[Verdict, ...]
    caveats: tuple[OtherDifferences | DoubtfulEstimates | UnfinishedRuns, ...] = ()


@dataclass(frozen=True)
class NoAnswer:
    """The reason why nothing can be answered."""

    reason: Literal["no runs", "one optimizer", "no pairs", "one seed"]
    first: str


Answer = Verdicts | NoAnswer
Finding = (
    HardlyLearnt
    | Headline
    | SingleSeed
    | HeadlineChange
    | BestEpochChange
    | FlatnessChanges
    | Disagreement
    | StepCost
    | OtherDifferences
    | UnequalLengths
    | Unmatched
    | DoubtfulEstimates
    | UnfinishedRuns
)


def findings(summary: Summary) -> list[Finding]:
    """Findings about every optimizer and about doubts, in the order of a report."""
    if not summary.finished:
        return [*_unfinished(summary)]
    of_optimizers: list[Finding] = []
    # By optimizer, not by quantity: a reader asks how sam does, not who has which loss.
    for versus in summary.versus:
        of_optimizers += _headline_changes(summary, versus)
        of_optimizers += _flatness_changes(summary, versus)
        of_optimizers += _cost(summary, versus)
    first = summary.contender(summary.first).cells[HEADLINE].mean
    unlearnt = (
        hardly_learnt(summary, contender.optimizer) for contender in summary.contenders
    )
    return [
        *(finding for finding in unlearnt if finding is not None),
        Headline(summary.first, summary.quantity(HEADLINE), first),
        *_single_seed(summary),
        *of_optimizers,
        *_other_differences(summary),
        *_unequal_lengths(summary),
        *_unmatched(summary),
        *_doubtful(summary),
        *_unfinished(summary),
    ]


def answer_of(summary: Summary) -> Answer:
    """Flatter? Better? Worth it? For every optimizer but the first."""
    if not summary.finished:
        return NoAnswer("no runs", summary.first)
    if len(summary.contenders) < 2:
        return NoAnswer("one optimizer", summary.first)
    # With one pair of runs there is no spread, and any difference may be noise.
    pairs = [v.changes[HEADLINE].interval.count for v in summary.versus if v.changes]
    if not pairs:
        return NoAnswer("no pairs", summary.first)
    if max(pairs) < 2:
        return NoAnswer("one seed", summary.first)
    verdicts = tuple(_verdict(summary, versus) for versus in summary.versus)
    return Verdicts(
        verdicts,
        (*_other_differences(summary), *_doubtful(summary), *_unfinished(summary)),
    )


def hardly_learnt(summary: Summary, optimizer: str) -> HardlyLearnt | None:
    """The train headline of an optimizer that has hardly learnt; None if it has."""
    contender = summary.contender(optimizer)
    error = contender.cells[TRAIN_HEADLINE].mean
    if contender.learnt or error is None:
        return None
    return HardlyLearnt(optimizer, summary.quantity(TRAIN_HEADLINE), error.mean)


def flatness(summary: Summary, versus: Versus) -> Flatness:
    """Sort the measures of flatness by their verdict beyond noise."""
    flatter: list[Quantity] = []
    sharper: list[Quantity] = []
    compared, unconverged = 0, []
    for quantity, change in _measures(summary, versus):
        compared += 1
        if change.clear:
            # Of some measures, such as a radius that keeps the loss, larger is flatter.
            lower_is_flatter = quantity.better == "smaller"
            side = flatter if change.lower == lower_is_flatter else sharper
            side.append(quantity)
            unconverged += [] if change.converged else [quantity]
    return Flatness(tuple(flatter), tuple(sharper), compared, tuple(unconverged))


def gain_of(summary: Summary, versus: Versus) -> Gain:
    """Whether the headline is better, or a gain worth naming is excluded.

    That is a tenth of the first optimizer's error, loss or whatever it is judged by.
    """
    change = versus.changes.get(HEADLINE)
    mean = summary.contender(summary.first).cells[HEADLINE].mean
    if change is None or mean is None or change.interval.count < 2:
        return "open"
    smaller = summary.quantity(HEADLINE).better == "smaller"
    if change.clear:
        return "some" if change.lower == smaller else "none"
    # The largest gain that the numbers allow, not the likeliest.
    best = change.interval.low if smaller else change.interval.high
    # Of a share that should be large, such as an accuracy, the errors are what counts.
    room = mean.mean if smaller or not change.share else 1 - mean.mean
    worth = WORTH if change.scale == "ratio" else WORTH * abs(room)
    reach = (change.none - best) if smaller else (best - change.none)
    return "none" if reach < worth else "open"


def by_stopping(versus: Versus) -> bool:
    """Whether most of a clear difference is gone at the best epochs."""
    last, best = versus.changes.get(HEADLINE), versus.changes.get(BEST)
    if last is None or best is None or not last.clear:
        return False
    # The best epoch is picked on the test set, so it can show that a difference goes
    # away, but never that there is one.
    left = abs(best.interval.mean - best.none)
    return left < abs(last.interval.mean - last.none) / 2


def _measures(summary: Summary, versus: Versus) -> list[tuple[Quantity, Change]]:
    """Measures of flatness that both optimizers have."""
    pairs = ((q, versus.changes.get(q.key)) for q in summary.quantities if q.flatness)
    return [(quantity, change) for quantity, change in pairs if change is not None]


def _verdict(summary: Summary, versus: Versus) -> Verdict:
    names = (versus.optimizer, summary.first)
    unlearnt = (hardly_learnt(summary, name) for name in names)
    return Verdict(
        optimizer=versus.optimizer,
        first=summary.first,
        quantity=summary.quantity(HEADLINE),
        change=versus.changes.get(HEADLINE),
        flatness=flatness(summary, versus),
        unlearnt=tuple(each for each in unlearnt if each is not None),
        matched=versus.matched,
        gain=gain_of(summary, versus),
        stopping=by_stopping(versus),
        price=versus.price or 1.0,
    )


def _single_seed(summary: Summary) -> list[Finding]:
    counts = [len(contender.cells[HEADLINE].values) for contender in summary.contenders]
    return [SingleSeed()] if len(counts) > 1 and max(counts) < 2 else []


def _headline_changes(summary: Summary, versus: Versus) -> list[Finding]:
    name, first = versus.optimizer, summary.first
    cells, changes = summary.contender(name).cells, versus.changes
    quantity, mean = summary.quantity(HEADLINE), cells[HEADLINE].mean
    change = changes.get(HEADLINE)
    last = HeadlineChange(name, first, quantity, mean, change)
    best = cells[BEST].mean
    if mean is None or change is None or best is None or not by_stopping(versus):
        return [last]
    at_best = summary.quantity(BEST)
    return [last, BestEpochChange(name, first, at_best, best, changes[BEST])]


def _flatness_changes(summary: Summary, versus: Versus) -> list[Finding]:
    if not versus.learnt:
        return []  # a network that has learnt nothing is flat for no merit of its own
    name, first, changes = versus.optimizer, summary.first, _measures(summary, versus)
    compared = [FlatnessChanges(name, first, tuple(changes))] if changes else []
    sides = flatness(summary, versus)
    if not (sides.flatter and sides.sharper):
        return [*compared]
    return [*compared, Disagreement(name, first, sides.flatter, sides.sharper)]


def _cost(summary: Summary, versus: Versus) -> list[Finding]:
    gradients = summary.contender(versus.optimizer).gradients
    if gradients is None or versus.price is None:
        return []
    return [StepCost(versus.optimizer, summary.first, gradients, versus.price)]


def _unmatched(summary: Summary) -> list[Finding]:
    gaps = []
    for versus in summary.versus:
        loss, error = map(versus.changes.get, (TRAIN_LOSS, TRAIN_HEADLINE))
        if loss is None or versus.matched or not versus.learnt:
            continue
        gap = error.interval.mean if error is not None and error.share else 0.0
        gaps.append(TrainLossGap(versus.optimizer, loss, gap))
    train = summary.quantity(TRAIN_HEADLINE)
    return [Unmatched(summary.first, tuple(gaps), train)] if gaps else []


def _unequal_lengths(summary: Summary) -> list[UnequalLengths]:
    epochs = [(c.optimizer, c.epochs) for c in summary.contenders]
    ended = tuple((name, each) for name, each in epochs if each is not None)
    return [UnequalLengths(ended)] if ended else []


def _other_differences(summary: Summary) -> list[OtherDifferences]:
    return [OtherDifferences(summary.unlike)] if summary.unlike else []


def _doubtful(summary: Summary) -> list[DoubtfulEstimates]:
    return [DoubtfulEstimates(summary.doubts)] if summary.doubts else []


def _unfinished(summary: Summary) -> list[UnfinishedRuns]:
    if summary.planned == summary.finished:
        return []
    return [UnfinishedRuns(summary.planned, summary.finished, summary.failures)]
