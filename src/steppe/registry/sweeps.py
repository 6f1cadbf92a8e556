"""One setting over several values: train with each, and see which does best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from steppe.errors import SettingError, check_callable, check_choice


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Scores of a training by the value of a setting.

    The score of the best of many values flatters it: judge the value by samples that
    the scores do not come from.
    """

    values: tuple[float, ...]  # ascending
    scores: tuple[tuple[float, ...], ...]  # for each value those of its finished runs
    failures: tuple[str, ...]  # runs that raised or gave no finite score
    runs: int  # for each value, finished or not
    better: Literal["smaller", "larger"]

    @property
    def means(self) -> tuple[float, ...]:
        """Mean score of each value; NaN unless all of its runs finished."""
        return tuple(
            fmean(scores) if len(scores) == self.runs else math.nan
            for scores in self.scores
        )

    @property
    def stderrs(self) -> tuple[float, ...]:
        """Standard error of each mean over the runs; inf for fewer than two."""
        return tuple(
            stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.inf
            for scores in self.scores
        )

    @property
    def best(self) -> float | None:
        """The value with the best mean, the smaller of equals; None if all failed."""
        sign = 1.0 if self.better == "smaller" else -1.0
        ranked = [
            (sign * mean, value)
            for mean, value in zip(self.means, self.values, strict=True)
            if math.isfinite(mean)
        ]
        return min(ranked)[1] if ranked else None

    @property
    def at_edge(self) -> Literal["low", "high"] | None:
        """Whether the best is the lowest or highest value, so others may be better."""
        if self.best is None:
            return None
        if self.best == self.values[-1]:
            return "high"
        return "low" if self.best == self.values[0] else None

    def __str__(self) -> str:
        lines = [
            f"{value:<10g} {mean:.5g}"
            + (f" ± {error:.2g}" if math.isfinite(error) else "")
            for value, mean, error in zip(
                self.values, self.means, self.stderrs, strict=True
            )
        ]
        return "\n".join([*lines, *self.failures, self._answer()])

    def _answer(self) -> str:
        if self.best is None:
            return "No value can be told best, as none finished all of its runs."
        answer = f"Best: {self.best:g}"
        if self.at_edge is None:
            return f"{answer}."
        side = {"low": "lowest", "high": "highest"}[self.at_edge]
        further = {"low": "lower", "high": "higher"}[self.at_edge]
        return f"{answer}, the {side} value tried; try {further} ones too."


def sweep(
    train: Callable[..., float],
    values: Sequence[float],
    *,
    seeds: Sequence[int] | None = None,
    better: Literal["smaller", "larger"] = "smaller",
    log: Callable[[str], None] = lambda _: None,
) -> Sweep:
    """Run a training with each value of a setting, such as SAM's radius.

    A run that raises an exception, or whose score is not finite, is listed among the
    failures, and the others go on; a value with such a run is not called best.

    Args:
        train: called with a value, `train(rho)`, or with a value and a seed,
            `train(rho, seed)`, if there are seeds; returns a score, best on validation
            samples.
        values: to try, all different, in any order; see `log_spaced`.
        seeds: one run for each with every value; None for one run without a seed.
        better: which scores are.
        log: called with a line about each finished run.

    Raises:
        SettingError: no values, or one that is twice among them or not finite.

    Example:
        >>> result = sweep(lambda rho: (rho - 0.1) ** 2, log_spaced(0.01, 1.0, 5))
        >>> result.best, result.at_edge
        (0.1, None)
    """
    check_callable("train", train, "takes a value, returns a score")
    check_choice("better", better, ("smaller", "larger"))
    if isinstance(seeds, int):
        raise SettingError(
            f"seeds must be several numbers, such as range({seeds}), got {seeds}."
        )
    ordered = tuple(sorted(values))
    distinct = len(set(ordered)) == len(ordered) and all(map(math.isfinite, ordered))
    if not ordered or not distinct or (seeds is not None and not seeds):
        raise SettingError(
            "a sweep needs one finite value or more, all different, and seeds that are "
            f"None or at least one; got values {list(values)} and seeds {seeds}."
        )
    arguments: list[tuple[int, ...]] = [()] if seeds is None else [(s,) for s in seeds]
    scores: list[tuple[float, ...]] = []
    failures: list[str] = []
    for value in ordered:
        finished = []
        for seed in arguments:
            score, outcome = _scored(train, value, seed)
            name = f"{value:g}" + "".join(f", seed {s}" for s in seed)
            if math.isfinite(score):
                finished.append(score)
            else:
                failures.append(f"{name}: {outcome}")
            log(f"{name}: {outcome}")
        scores.append(tuple(finished))
    return Sweep(
        values=ordered,
        scores=tuple(scores),
        failures=tuple(failures),
        runs=len(arguments),
        better=better,
    )


def log_spaced(low: float, high: float, count: int) -> tuple[float, ...]:
    """Values with equal ratios from low to high, rounded to three digits.

    Example:
        >>> log_spaced(0.01, 1.0, 5)
        (0.01, 0.0316, 0.1, 0.316, 1.0)

    Raises:
        SettingError: unless 0 < low < high and count >= 2.
    """
    if not (0 < low < high < math.inf and count >= 2):
        raise SettingError(
            "log-spaced values need 0 < low < high and at least 2 of them, "
            f"got {low:g}, {high:g} and {count}."
        )
    ratio = math.log(high / low) / (count - 1)
    return tuple(float(f"{low * math.exp(i * ratio):.3g}") for i in range(count))


def _scored(
    train: Callable[..., float], value: float, seed: tuple[int, ...]
) -> tuple[float, str]:
    try:
        score = float(train(value, *seed))
    except Exception as error:  # whatever a training of the user raises
        return math.nan, f"{type(error).__name__}: {error}"
    return score, f"{score:.5g}" if math.isfinite(score) else f"score {score}"
