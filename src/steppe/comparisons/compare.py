"""Paired comparison of two objectives in any measures.

Both are measured on the same samples with the same random draws. Errors over samples
are those of the jackknife, which leaves out a group of samples at a time and measures
both again; errors over draws are those of repeats with other draws.

Shape letters: G groups, R repeats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from steppe.comparisons.jackknife import groups_of, jackknife
from steppe.comparisons.units import (
    Unit,
    check_comparable,
    part_of,
    unit_count,
    unit_of,
)
from steppe.errors import (
    DataError,
    SettingError,
    SteppeError,
    check_choice,
    check_count,
    check_integer,
)
from steppe.measures import (
    MEASURES,
    AbstractMeasure,
    build_all,
    listed,
    measure,
    refused,
)
from steppe.objective import Objective, check_objective
from steppe.registry.registry import Choice
from steppe.results import Comparison, Cost, Difference, Estimate, joint_samples
from steppe.results.student import check_level
from steppe.seeds import seed_of

Progress = Callable[[int, int], None]
Measures = Mapping[str, AbstractMeasure]
Pair = tuple[Estimate, Estimate]
Pairs = dict[str, list[Pair]]

DEFAULT = ("loss", "top_eigenvalue", "trace", "lpf")
ROUGH = 1e9  # relative error that the least number of draws has
SAME = 1e-12  # relative difference of repeats in which nothing was drawn


def compare(
    a: Objective,
    b: Objective,
    measures: Iterable[str | Choice | AbstractMeasure] = DEFAULT,
    *,
    groups: int = 20,
    repeats: int = 8,
    unit: Unit | None = None,
    level: float = 0.95,
    names: tuple[str, str] = ("a", "b"),
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two networks on the same data, with intervals of the differences.

    Every measure is a function of the data and of random draws, and so is the
    difference between the networks. Over the data, its error is that of the jackknife
    with G groups (Busing et al., 1999, doi:10.1023/A:1008800423698), which holds for
    smooth functions of the distribution of the samples, such as means and single
    eigenvalues, not where two eigenvalues cross. Over the draws, it is that of R
    repeats. The intervals are of Student's t. Both networks have the same samples and
    the same draws throughout, so what these have in common cancels.

    It costs 2 (G + R) measurements, 2 (G + 1) of measures that draw nothing.

    Args:
        a: the mean loss of the first network.
        b: that of the second one, on the same batches.
        measures: names, names with settings, or measures; see `measure`.
        groups: number G that the samples are dealt into at random, at least 2; fewer
            where the data has fewer units.
        repeats: number R of measurements with other draws, at least 2; where they are
            most of the error, intervals of 95 % cover 89 to 90 % with 2 (in simulations
            with normal errors), 93 to 95 % with 3 and 95 % with 8.
        unit: left out as one: "sample", a row of the tensors of a batch; "batch", for
            samples that belong together (patients, texts) and are a batch each; None
            for samples where the losses of a batch are those of its rows, and batches
            elsewhere.
        level: coverage of the intervals, between 0 and 1.
        names: of the two networks in tables.
        seed: of the draws and of the groups.
        progress: called with the number of measurements done and of all.

    Returns:
        Comparison, a mapping by measure; it prints as a table and has `rows()` and
        `to_dict()`. A measure that a network does not allow says so in `refusal`.

    Raises:
        UnknownNameError: no measure of that name.
        SettingError: a setting out of range, a measure that is asked for twice, one
            network in both, or another loss or mode.
        DataError: other samples, or in another order or other batches, or a single one.
        SteppeError: the first refusal, where nothing could be measured.
    """
    check_objective(a, "compare()")
    check_objective(b, "compare()")
    check_count("groups", groups, 2)
    check_count("repeats", repeats, 2)
    check_level(level)
    check_integer("seed", seed)
    if len(names) != 2 or not all(isinstance(name, str) for name in names):
        raise SettingError(f"names must be those of two networks, got {names!r}.")
    if unit is not None:
        check_choice("unit", unit, ("sample", "batch"))
    asked = listed(measures)
    wanted = build_all(asked)
    check_comparable(a, b)
    before = a.cost + b.cost
    first = _paired(measure(a, asked, seed=seed), measure(b, asked, seed=seed))
    live = {
        key: _with_draws(wanted[key], pair)
        for key, pair in first.items()
        if not any(estimate.refusal for estimate in pair)
    }
    unit = unit or unit_of((a, b))
    units = unit_count(a, unit)
    if units < 2:
        raise DataError(
            f"the data must have at least 2 units to leave one out, got 1 {unit}; give "
            "more data or smaller batches."
        )
    groups = min(groups, units)
    runs = _Runs(a, b, progress, groups + repeats)
    # The first repeat is the measurement there is.
    seeds = [seed, *(seed_of(seed, number) for number in range(1, repeats))]
    same = {key: first[key] for key in live if live[key] is wanted[key]}
    drawn = _repeated(runs, live, same, seeds)
    deal = groups_of(units, groups, torch.Generator().manual_seed(seed))
    without, left_out = _left_out(runs, live, unit, deal, seed)
    return Comparison(
        by_name={
            key: _difference(drawn[key], without[key], left_out, level)
            if key in live
            else _no_difference(pair, level)
            for key, pair in first.items()
        },
        names=names,
        units=units,
        unit=unit,
        groups=len(left_out),
        cost=a.cost + b.cost - before + runs.cost,
        details={**a.details, "seed": seed, "repeats": repeats},
    )


class _Runs:
    """Measurements of both objectives, counted, and the cost of those on parts."""

    def __init__(
        self, a: Objective, b: Objective, progress: Progress | None, total: int
    ) -> None:
        self.both = (a, b)
        self.cost = Cost()
        self.done, self.total = 0, total
        self._progress = progress

    def on_all(self, measures: Measures, seed: int) -> dict[str, Pair]:
        """Estimates of both on all of the data."""
        a, b = (_measured(objective, measures, seed) for objective in self.both)
        self.tick(self.done + 1)
        return _paired(a, b)

    def on_part(
        self, measures: Measures, seed: int, unit: Unit, kept: Tensor
    ) -> tuple[dict[str, Pair], float]:
        """Estimates of both on a part of the data, and its share of the loss terms."""
        estimates = []
        for whole in self.both:
            part = part_of(whole, unit, kept)
            estimates.append(_measured(part, measures, seed))
            share = part.count() / whole.count()
            self.cost += part.cost.scaled(share)
        self.tick(self.done + 1)
        return _paired(*estimates), share

    def tick(self, done: int) -> None:
        """Report the number of pairs done."""
        self.done = done
        if self._progress is not None:
            self._progress(done, self.total)


def _measured(
    objective: Objective, measures: Measures, seed: int
) -> dict[str, Estimate]:
    """Estimates by key; one that is refused says why."""
    try:
        estimates = measure(objective, measures.values(), seed=seed).values()
    except (SteppeError, torch.OutOfMemoryError) as error:  # of all of them
        return {key: refused(built, error) for key, built in measures.items()}
    return dict(zip(measures, estimates, strict=True))


def _paired(a: Mapping[str, Estimate], b: Mapping[str, Estimate]) -> dict[str, Pair]:
    return {key: (a[key], b[key]) for key in a}


def _with_draws(built: AbstractMeasure, pair: Pair) -> AbstractMeasure:
    """The measure with a number of draws that does not depend on the data.

    Parts of the data would else have other numbers of them, and differ by that.
    """
    name = built.choice().name
    plan = MEASURES[name].spec.planned_by if name in MEASURES.names() else None
    if plan is None or not built.settings()[plan]:  # 0: a number that was given
        return built
    if not any(estimate.samples for estimate in pair):
        return built
    return dataclasses.replace(built, **{plan: ROUGH})


def _repeated(
    runs: _Runs, live: Measures, first: Mapping[str, Pair], seeds: Sequence[int]
) -> Pairs:
    """Pairs of each measure by other draws, as far as it has any."""
    drawn: Pairs = {key: [] for key in live}
    for number, seed in enumerate(seeds):
        known = first if number == 0 else {}
        drawing = {key for key, pairs in drawn.items() if _draws(pairs)}
        todo = {key: live[key] for key in drawing if key not in known}
        pairs = {**known, **(runs.on_all(todo, seed) if todo else {})}
        for key, pair in pairs.items():
            drawn[key].append(pair)
    runs.tick(len(seeds))
    return drawn


def _draws(pairs: Sequence[Pair]) -> bool:
    """Whether further repeats may differ from those there are."""
    if not pairs:
        return True
    if not any(estimate.samples for estimate in pairs[0]):
        return False
    # The loss has samples, but they are those of the data.
    return len(pairs) < 2 or not all(
        math.isclose(one.value, other.value, rel_tol=SAME)
        for one, other in zip(*pairs[:2], strict=True)
    )


def _left_out(
    runs: _Runs, live: Measures, unit: Unit, deal: Tensor, seed: int
) -> tuple[Pairs, Tensor]:
    """Pairs without each group, and the share of the loss terms of each, (G,)."""
    without: Pairs = {key: [] for key in live}
    shares = []
    for group in range(int(deal.max()) + 1):
        pairs, share = runs.on_part(live, seed, unit, deal != group)
        if share == 1:  # targets that are ignored alone: nothing was left out
            continue
        shares.append(1 - share)
        for key, pair in pairs.items():
            without[key].append(pair)
    return without, torch.tensor(shares, dtype=torch.float64)


def _difference(
    drawn: Sequence[Pair], without: Sequence[Pair], left_out: Tensor, level: float
) -> Difference:
    pairs = [*drawn, *without]
    refusals = [e.refusal for pair in pairs for e in pair if e.refusal]
    if not all(math.isfinite(e.value) for pair in pairs for e in pair):
        refusals.append("a value is not finite")
    a, b = (_mean(side) for side in zip(*drawn, strict=True))
    if refusals:
        return _no_difference((a, b), level, refusals[0])
    positive = all(e.value > 0 for pair in pairs for e in pair)
    errors = _errors(drawn, without, left_out, _minus)
    total = dataclasses.replace(
        errors.total,
        # Of the parts too, which the error rests on.
        converged=all(e.converged for pair in pairs for e in pair),
        units=a.units if a.units == b.units else "",
    )
    ratios = _errors(drawn, without, left_out, _log_ratio) if positive else None
    return Difference(
        a=a,
        b=b,
        over_data=errors.over_data,
        over_draws=errors.over_draws,
        total=total,
        bias=errors.bias,
        log_ratio=ratios and ratios.total,
        level=level,
    )


def _minus(pair: Pair) -> float:
    return pair[0].value - pair[1].value


def _log_ratio(pair: Pair) -> float:
    return math.log(pair[0].value) - math.log(pair[1].value)


class _Errors(NamedTuple):
    over_data: Estimate
    over_draws: Estimate
    total: Estimate
    bias: float


def _errors(
    drawn: Sequence[Pair],
    without: Sequence[Pair],
    left_out: Tensor,
    quantity: Callable[[Pair], float],
) -> _Errors:
    """A quantity of pairs with its errors over data, draws and both."""
    repeats = torch.tensor([quantity(pair) for pair in drawn], dtype=torch.float64)
    parts = torch.tensor([quantity(pair) for pair in without], dtype=torch.float64)
    value, count = float(repeats.mean()), len(repeats)
    spread = float(repeats.std()) / count**0.5 if count > 1 else 0.0
    # Parts have the draws of the first repeat, so these cancel.
    bias, error = jackknife(float(repeats[0]), parts, left_out)
    data = Estimate(value=value, stderr=error, samples=len(parts))
    draws = Estimate(value=value, stderr=spread, samples=count if spread else 0)
    total = Estimate(
        value=value,
        stderr=math.hypot(error, spread),
        samples=joint_samples((data, draws)),
    )
    return _Errors(data, draws, total, bias)


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over repeats; the one estimate where they do not differ."""
    first = estimates[0]
    if all(estimate.value == first.value for estimate in estimates):
        return first
    count = len(estimates)
    return dataclasses.replace(
        first,
        value=sum(e.value for e in estimates) / count,
        stderr=math.hypot(*(e.stderr for e in estimates)) / count,
        samples=joint_samples(tuple(estimates)),
        converged=all(e.converged for e in estimates),
        cost=sum((e.cost for e in estimates), Cost()),
    )


def _no_difference(pair: Pair, level: float, refusal: str = "") -> Difference:
    missing = Estimate(value=math.nan, stderr=math.nan, converged=False)
    reasons = [estimate.refusal for estimate in pair if estimate.refusal]
    return Difference(
        a=pair[0],
        b=pair[1],
        over_data=missing,
        over_draws=missing,
        total=missing,
        bias=math.nan,
        log_ratio=None,
        level=level,
        refusal=refusal or reasons[0],
    )
