"""A setting over several values: which one validation samples choose, and its test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steppe.registry.sweeps import Sweep
from steppe_lab.reports.comparison.quantities import metric_of
from steppe_lab.reports.text.numbers import listed, mean_of, one_or_more
from steppe_lab.statistics.error_rates import error_difference
from steppe_lab.statistics.intervals import (
    Interval,
    mean_interval,
    paired_difference,
)
from steppe_lab.studies.rows import Comparison, Row
from steppe_lab.tasks import Metric


@dataclass(frozen=True)
class SweptValue:
    """The headline metric with one value of the setting."""

    value: float
    validation: Interval  # over seeds
    test: Interval | None  # None without a score on the test set
    runs: int  # finished


@dataclass(frozen=True)
class SweepReport:
    """All values of a setting that have a finished run, ascending."""

    setting: str
    values: tuple[SweptValue, ...]
    best: float | None  # on validation samples; None if no value finished all its runs
    answer: str
    metric: Metric  # the headline

    @property
    def heads(self) -> tuple[str, ...]:
        """Headings of the table."""
        return (
            self.setting,
            f"validation {self.metric.title}",
            f"test {self.metric.title}",
            "runs",
            "",
        )

    def table(self) -> list[tuple[str, ...]]:
        """Cells of a table, by value."""
        return [
            (
                f"{each.value:g}",
                mean_of(each.validation, share=self.metric.share),
                "–" if each.test is None else mean_of(each.test, self.metric.share),
                str(each.runs),
                "chosen" if each.value == self.best else "",
            )
            for each in self.values
        ]


def sweep_of(comparison: Comparison) -> SweepReport | None:
    """The errors of a sweep; None without a sweep, or without numbers in it."""
    setting = comparison.settings.sweep
    by_value: dict[float, list[Row]] = {}
    for row in comparison.rows if setting else ():
        value = _value(row.settings, setting)
        if value is not None:
            by_value.setdefault(value, []).append(row)
    if not by_value:
        return None
    swept = tuple(_swept_value(comparison, v, by_value[v]) for v in sorted(by_value))
    sweep = Sweep(
        values=tuple(sorted(by_value)),
        scores=tuple(
            tuple(row.last[f"test_{row.headline.name}"] for row in by_value[value])
            for value in sorted(by_value)
        ),
        failures=(),
        runs=comparison.settings.seeds,
        better=metric_of(comparison).better,
    )
    answer = _answer(comparison, sweep, swept)
    if sweep.best is not None:
        answer += _doubt(sweep.best, by_value, comparison.settings.seeds)
    return SweepReport(setting, swept, sweep.best, answer, metric_of(comparison))


def _doubt(best: float, by_value: dict[float, list[Row]], seeds: int) -> str:
    """Values that validation samples cannot tell from the best one."""
    if seeds < 2:
        return " One seed cannot tell it from the others."
    chosen = by_value[best]
    alike = [
        f"{value:g}"
        for value, rows in sorted(by_value.items())
        if value != best and len(rows) == seeds and not _differ(rows, chosen)
    ]
    if not alike:
        return " Beyond noise it is better than every other that finished."
    verb = "is" if len(alike) == 1 else "are"
    return f" {listed(alike)} {verb} within noise of it."


def _differ(rows: list[Row], others: list[Row]) -> bool:
    """Whether the 95 % interval of the difference in the headline excludes none."""
    if any(row.wrong is None for row in (*rows, *others)):
        name = f"test_{rows[0].headline.name}"
        ours, theirs = ([row.last[name] for row in each] for each in (rows, others))
        return paired_difference(ours, theirs).excludes(0.0)
    left, right = ([set(row.wrong or ()) for row in each] for each in (rows, others))
    return error_difference(left, right, rows[0].test_samples).excludes(0.0)


def _swept_value(comparison: Comparison, value: float, rows: list[Row]) -> SweptValue:
    validation = mean_interval([row.last[f"test_{row.headline.name}"] for row in rows])
    tested = comparison.tested
    # Of a value whose scoring failed the other seeds are shown.
    known = [tested[row.training] for row in rows if row.training in tested]
    test = mean_interval(known) if known else None
    return SweptValue(value, validation, test, len(rows))


def _value(recipe: dict[str, Any], setting: str) -> float | None:
    for kind in ("optimizer", "base", "average"):
        value = ((recipe.get(kind) or {}).get("settings") or {}).get(setting)
        if isinstance(value, int | float):
            return float(value)
    return None


def _answer(comparison: Comparison, sweep: Sweep, swept: tuple[SweptValue, ...]) -> str:
    setting, best = comparison.settings.sweep, sweep.best
    if best is None:
        return f"No {setting} can be chosen, as none finished all of its runs."
    chosen = next(each for each in swept if each.value == best)
    count = f"{comparison.test_samples:,} samples held out of training"
    text = f"Chosen on {count}, without the test set: {setting} = {best:g}"
    if chosen.test is not None:
        over = one_or_more(comparison.settings.seeds, "seed")
        metric = metric_of(comparison)
        value = mean_of(chosen.test, metric.share)
        text += f", with a test {metric.title} of {value} ({over})"
    if sweep.at_edge is None:
        return f"{text}."
    side, further = {"low": ("lowest", "lower"), "high": ("highest", "higher")}[
        sweep.at_edge
    ]
    return f"{text}. It is the {side} value tried, so try {further} ones too."
