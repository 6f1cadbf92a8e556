"""The level of a setting with the best mean score, and the levels that may be it.

Source: Hsu, 1984, Constrained simultaneous confidence intervals for multiple
comparisons with the best, Annals of Statistics 12(3), 1136-1144; here with t tests of
pairs that share a seed, at a level divided by their number (Bonferroni), in place of
the common variance that his intervals assume.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from steppe_lab.statistics.correlation import check_level
from steppe_lab.statistics.intervals import LEVEL, Interval, mean_interval
from steppe_lab.statistics.tables import Table, complete

Runs = Mapping[Any, float]  # scores by seed


@dataclass(frozen=True)
class Optimum:
    """The best level, and an interval of the setting that covers the truly best one.

    It covers it with probability `level` at least, where differences between runs of
    one seed are about normal.
    """

    setting: str
    best: Any  # the level with the best mean score
    score: Interval  # there, of Student: optimistic, since the best of many was taken
    candidates: tuple[Any, ...]  # levels that no other one is better than, beyond noise
    levels: tuple[Any, ...]  # all of them, in order
    level: float = LEVEL

    @property
    def low(self) -> Any:
        """The first level that may be the best."""
        return self.candidates[0]

    @property
    def high(self) -> Any:
        """The last level that may be the best."""
        return self.candidates[-1]

    @property
    def at_edge(self) -> bool:
        """Whether it is the first or last level, so that one beyond may be better."""
        return self.best in (self.levels[0], self.levels[-1])


def optimum(
    table: Table,
    setting: str,
    score: str,
    *,
    seed: str = "seed",
    higher_is_better: bool = False,
    level: float = LEVEL,
) -> Optimum | None:
    """The best level of a setting by its mean score over seeds.

    Args:
        table: columns by name; rows without a value are left out.
        setting: column of the levels.
        score: column of numbers, such as an error on validation samples.
        seed: column that pairs runs of unlike levels; several runs of one level and
            seed count by their mean.
        higher_is_better: of the score.
        level: probability that the truly best level is among `candidates`.

    Returns:
        None where no row has both a level and a score.

    Raises:
        DataError: no such column, or a text among the scores.
        SettingError: a level that is not between 0 and 1.

    Example:
        >>> table = {"rho": [1, 1, 2, 2], "seed": [0, 1, 0, 1], "loss": [3, 5, 1, 2]}
        >>> best = optimum(table, "rho", "loss")
        >>> best.best, best.score.mean, best.candidates
        (2, 1.5, (1, 2))
    """
    check_level(level)
    rows = complete(table, [score], [setting, seed])
    if not len(rows):
        return None
    sign = -1.0 if higher_is_better else 1.0
    settings, seeds = rows.factors[setting], rows.factors[seed]
    scores: dict[int, dict[int, list[float]]] = {}
    for place, run, value in zip(
        settings.codes.tolist(),
        seeds.codes.tolist(),
        rows.numbers[score].tolist(),
        strict=True,
    ):
        scores.setdefault(place, {}).setdefault(run, []).append(value)
    means: dict[int, Runs] = {
        place: {run: fmean(each) for run, each in scores[place].items()}
        for place in sorted(scores)
    }
    best = min(means, key=lambda place: sign * fmean(means[place].values()))
    alpha = (1 - level) / max(len(means) - 1, 1)
    candidates = [
        place
        for place, runs in means.items()
        if not any(_is_worse(runs, each, sign, alpha) for each in means.values())
    ]
    return Optimum(
        setting=setting,
        best=settings.names[best],
        score=mean_interval([*means[best].values()], level),
        # The best mean is worse than no other one, whatever the pairs say.
        candidates=tuple(settings.names[p] for p in sorted({*candidates, best})),
        levels=settings.names,
        level=level,
    )


def _is_worse(runs: Runs, others: Runs, sign: float, alpha: float) -> bool:
    """A t test on one side, over the seeds that both levels have."""
    gaps = [sign * (runs[seed] - others[seed]) for seed in runs if seed in others]
    if len(gaps) < 2 or fmean(gaps) <= 0:
        return False
    error = stdev(gaps) / math.sqrt(len(gaps))
    if error == 0:
        return True
    from scipy.special import stdtr

    return float(stdtr(len(gaps) - 1, -fmean(gaps) / error)) < alpha
