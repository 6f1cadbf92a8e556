"""Paired comparison of objectives in any measures.

All are measured on the same samples with the same random draws. Errors over samples
are those of the jackknife, which leaves out a group of samples at a time and measures
all again; errors over draws are those of repeats with other draws.

Shape letters: G groups, R repeats, K networks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from steppe.comparisons.differences import difference, no_difference
from steppe.comparisons.jackknife import groups_of
from steppe.comparisons.runs import Known, Measures, Progress, Row, Rows, Runs
from steppe.comparisons.units import (
    Unit,
    check_comparable,
    unit_count,
    unit_of,
)
from steppe.errors import (
    DataError,
    SettingError,
    check_choice,
    check_count,
    check_integer,
)
from steppe.measures import (
    MEASURES,
    AbstractMeasure,
    build_all,
)
from steppe.measures.measurement import Weights
from steppe.objective import Objective, check_objective
from steppe.registry.registry import Choice
from steppe.results import Comparison, Comparisons
from steppe.results.student import check_level
from steppe.seeds import seed_of

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
    starts: Sequence[Weights | None] = (None, None),
    other: Weights | None = None,
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
        starts: weights at the start of the training of each network, for measures that
            need them.
        other: a further network of the same structure, for measures of pairs.
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
    (comparison,) = compare_all(
        (a, b),
        measures,
        groups=groups,
        repeats=repeats,
        unit=unit,
        level=level,
        names=names,
        seed=seed,
        starts=starts,
        other=other,
        progress=progress,
    ).values()
    return comparison


def compare_all(
    objectives: Sequence[Objective],
    measures: Iterable[str | Choice | AbstractMeasure] = DEFAULT,
    *,
    names: Sequence[str],
    groups: int = 20,
    repeats: int = 8,
    unit: Unit | None = None,
    level: float = 0.95,
    seed: int = 0,
    starts: Sequence[Weights | None] | None = None,
    other: Weights | None = None,
    known: Sequence[Known] | None = None,
    progress: Progress | None = None,
) -> Comparisons:
    """Compare the first of several networks with each of the others.

    Every comparison is that of `compare`, with the same bits; the first network is
    measured once, so that all cost K (G + R) measurements.

    Args:
        objectives: mean losses of K >= 2 networks on the same batches.
        measures: names, names with settings, or measures; see `measure`.
        names: of the networks in tables; those of all but the first must differ.
        groups: see `compare`.
        repeats: see `compare`.
        unit: see `compare`.
        level: coverage of the intervals, between 0 and 1.
        seed: of the draws and of the groups.
        starts: weights at the start of the training of each network.
        other: a further network of the same structure, for measures of pairs.
        known: for each network the measurements that an earlier call finished; each
            one gets those of this call as they finish.
        progress: called with the number of measurements done and of all.

    Returns:
        Comparisons, a mapping by the names of all networks but the first.

    Raises:
        SteppeError: as `compare`.
    """
    for each in objectives:
        check_objective(each, "compare()")
    check_count("groups", groups, 2)
    check_count("repeats", repeats, 2)
    check_level(level)
    check_integer("seed", seed)
    count = len(objectives)
    check_count("the number of networks", count, 2)
    if len(names) != count or not all(isinstance(name, str) for name in names):
        raise SettingError(f"names must be those of {_networks(count)}, got {names!r}.")
    if len(set(names[1:])) < count - 1:
        raise SettingError(
            f"names of all networks but the first must differ, got {names!r}."
        )
    if starts is not None and len(starts) != count:
        raise SettingError(
            f"starts must be those of {_networks(count)}, got {len(starts)}."
        )
    if unit is not None:
        check_choice("unit", unit, ("sample", "batch"))
    wanted = build_all(measures)
    for each in objectives[1:]:
        check_comparable(objectives[0], each)
    runs = Runs(objectives, starts, other, known, progress, groups + repeats)
    first = runs.first(wanted, seed)
    live = {
        key: _with_draws(wanted[key], row)
        for key, row in first.items()
        if not row[0].refusal and not all(e.refusal for e in row[1:])
    }
    unit = unit or unit_of(objectives)
    units = unit_count(objectives[0], unit)
    if units < 2:
        raise DataError(
            f"the data must have at least 2 units to leave one out, got 1 {unit}; give "
            "more data or smaller batches."
        )
    groups = min(groups, units)
    runs.total = groups + repeats
    # The first repeat is the measurement there is.
    seeds = [seed, *(seed_of(seed, number) for number in range(1, repeats))]
    same = {key: first[key] for key in live if live[key] is wanted[key]}
    drawn = _repeated(runs, live, same, seeds)
    deal = groups_of(units, groups, torch.Generator().manual_seed(seed))
    without, left_out = _left_out(runs, live, unit, deal, seed)

    def of(number: int) -> Comparison:
        """The comparison of the first network with another."""
        differences = {}
        for key, row in first.items():
            pair = (row[0], row[number])
            if any(estimate.refusal for estimate in pair):
                differences[key] = no_difference(pair, level)
                continue
            differences[key] = difference(
                [(row[0], row[number]) for row in drawn[key]],
                [(row[0], row[number]) for row in without[key]],
                left_out,
                level,
            )
        return Comparison(
            by_name=differences,
            names=(names[0], names[number]),
            units=units,
            unit=unit,
            groups=len(left_out),
            cost=runs.costs[0] + runs.costs[number],
            details={**objectives[0].details, "seed": seed, "repeats": repeats},
        )

    return Comparisons({names[number]: of(number) for number in range(1, count)})


def _networks(count: int) -> str:
    return "two networks" if count == 2 else f"{count} networks"


def _with_draws(built: AbstractMeasure, row: Row) -> AbstractMeasure:
    """The measure with a number of draws that does not depend on the data.

    Parts of the data would else have other numbers of them, and differ by that.
    """
    name = built.choice().name
    plan = MEASURES[name].spec.planned_by if name in MEASURES.names() else None
    if plan is None or not built.settings()[plan]:  # 0: a number that was given
        return built
    if not any(estimate.samples for estimate in row):
        return built
    return dataclasses.replace(built, **{plan: ROUGH})


def _repeated(
    runs: Runs, live: Measures, first: Mapping[str, Row], seeds: Sequence[int]
) -> Rows:
    """Rows of each measure by other draws, as far as it has any."""
    drawn: Rows = {key: [] for key in live}
    for number, seed in enumerate(seeds):
        known = first if number == 0 else {}
        drawing = {key for key, rows in drawn.items() if _draws(rows)}
        todo = {key: live[key] for key in drawing if key not in known}
        rows = {**known, **(runs.on_all(todo, seed) if todo else {})}
        for key, row in rows.items():
            drawn[key].append(row)
    runs.tick(len(seeds))
    return drawn


def _draws(rows: Sequence[Row]) -> bool:
    """Whether further repeats may differ from those there are."""
    if not rows:
        return True
    if not any(estimate.samples for estimate in rows[0]):
        return False
    # The loss has samples, but they are those of the data.
    return len(rows) < 2 or not all(
        math.isclose(one.value, other.value, rel_tol=SAME)
        for one, other in zip(*rows[:2], strict=True)
        if not one.refusal
    )


def _left_out(
    runs: Runs, live: Measures, unit: Unit, deal: Tensor, seed: int
) -> tuple[Rows, Tensor]:
    """Rows without each group, and the share of the loss terms of each, (G,)."""
    without: Rows = {key: [] for key in live}
    shares = []
    for group in range(int(deal.max()) + 1):
        rows, share = runs.on_part(live, seed, unit, deal, group)
        if share == 1:  # targets that are ignored alone: nothing was left out
            continue
        shares.append(1 - share)
        for key, row in rows.items():
            without[key].append(row)
    return without, torch.tensor(shares, dtype=torch.float64, device="cpu")
