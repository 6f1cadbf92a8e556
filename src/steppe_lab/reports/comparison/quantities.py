"""Quantities reported of every network, and how they are read from a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from steppe.measures import MEASURES
from steppe.registry.registry import Choice
from steppe.registry.specs import MeasureSpec
from steppe_lab.studies.rows import Comparison, Row
from steppe_lab.tasks import Metric

# Keys of the task's headline metric, whatever its name.
HEADLINE = "last:test_headline"
BEST = "best:test_headline"
TRAIN_HEADLINE = "last:train_headline"
TRAIN_LOSS = "last:train_loss"
BASE_LOSS = "base_loss"  # detail of a measure that contains the loss itself


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of every network."""

    key: str
    title: str  # in headings, and in sentences after "sam's"
    units: str
    share: bool = False  # 0 to 1: shown in percent, compared by differences
    flatness: bool = False  # counts in the question which optimizer is flatter
    measured: bool = False  # by a measure of flatness
    better: Literal["smaller", "larger"] = "smaller"
    ranked: bool = True  # whether one optimizer may be called best
    note: str = ""

    @property
    def family(self) -> str:
        """Quantities of one family are judged together."""
        return "flatness" if self.flatness else self.key


@dataclass(frozen=True)
class Value:
    """A quantity of one network; not finite where there is none."""

    value: float
    stderr: float = 0.0
    converged: bool = True
    wrong: frozenset[int] | None = None  # test samples behind an error rate
    samples: int = 0  # that a share is of; 0 for other quantities


def quantities(comparison: Comparison) -> tuple[Quantity, ...]:
    """All quantities of a comparison, the headline first."""
    names: dict[str, Mapping[str, Any]] = {}
    # The first estimate of a name stands for all: whether it contains the loss is a
    # fact of the measure, not of the network.
    for row in comparison.rows:
        for name, estimate in row.measures.items():
            names.setdefault(name, estimate)
    measured = [
        q for name, estimate in names.items() for q in _measured(name, estimate)
    ]
    return (*_scores(comparison), *measured)


def metric_of(comparison: Comparison) -> Metric:
    """The metric that networks of a comparison are judged by."""
    return comparison.headline


def read(quantity: Quantity, row: Row, comparison: Comparison) -> Value:
    """The quantity of one network of a comparison."""
    place, _, name = quantity.key.partition(":")
    value = _READERS[place](row, name)
    if not quantity.share:
        return value
    on_training = name.startswith("train_")
    samples = comparison.train_samples if on_training else row.test_samples
    return replace(value, samples=samples)


def refusal_of(quantity: Quantity, row: Row) -> str:
    """Why a network could not be measured so, without the full stop; "" if it could."""
    name = quantity.key.partition(":")[2]
    return str(row.measures.get(name, {}).get("refusal", "")).rstrip(".")


def spec_of(measure: str) -> MeasureSpec | None:
    """Facts about a measure given as `name` or `name:setting=value`, where known."""
    name = measure.partition(":")[0]
    return MEASURES[name].spec if name in MEASURES else None


def _scores(comparison: Comparison) -> list[Quantity]:
    held_out = comparison.settings.held_out
    metric = metric_of(comparison)
    on = {"test": "the test set", "validation": "validation samples"}[held_out]

    def judged(key: str, part: str, note: str = "") -> Quantity:
        title = f"{part} {metric.title}"
        return Quantity(
            key=key,
            title=title,
            units=metric.units,
            share=metric.share,
            better=metric.better,
            ranked=key != BEST,
            note=note,
        )

    def of_corpus(metric: Metric) -> Quantity:
        return Quantity(
            key=f"last:test_{metric.name}",
            title=f"{held_out} {metric.title}",
            units=metric.units,
            better=metric.better,
            note=f"after the last epoch, on {on}",
        )

    def loss(key: str, part: str) -> Quantity:
        title = f"{part} loss"
        return Quantity(key=key, title=title, units="loss")

    return [
        judged(HEADLINE, held_out, f"after the last epoch, on {on}"),
        *map(of_corpus, comparison.corpus_metrics),
        loss("last:test_loss", held_out),
        loss(TRAIN_LOSS, "train"),
        judged(TRAIN_HEADLINE, "train"),
        judged(
            BEST,
            f"best-epoch {held_out}",
            f"picked on {on}, so it flatters; interval over seeds alone",
        ),
    ]


def _measured(name: str, estimate: Mapping[str, Any]) -> list[Quantity]:
    spec = spec_of(name)
    units = spec.units if spec else ""
    inverse = spec is not None and spec.sharper_is == "smaller"
    flatter: Literal["smaller", "larger"] = "larger" if inverse else "smaller"
    contains_loss = BASE_LOSS in estimate.get("details", {})
    whole = Quantity(
        key=f"measure:{name}",
        title=_title(name, spec),
        units=units,
        flatness=not contains_loss,
        measured=True,
        better=flatter,
        note="contains the loss itself" if contains_loss else "",
    )
    # Of two networks the one that fits better would look flatter by its loss alone.
    if not contains_loss:
        return [whole]
    excess = Quantity(
        key=f"excess:{name}",
        title=f"{whole.title} minus the loss",
        units=units,
        flatness=True,
        measured=True,
        better=flatter,
        note="above the loss of the same network",
    )
    return [whole, excess]


def _title(name: str, spec: MeasureSpec | None) -> str:
    """The measure in words; its settings too where it is measured with several."""
    if spec is None:
        return name
    settings = _changed(name)
    return f"{spec.title} ({settings})" if settings else spec.title


def _changed(name: str) -> str:
    """The settings of a measure that differ from its defaults, as text."""
    choice = MEASURES.parse(name)
    defaults = MEASURES.choose(choice.name, {}).settings
    changed = {k: v for k, v in choice.settings.items() if defaults.get(k) != v}
    return str(Choice("", changed)).lstrip(":")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _of_measure(row: Row, name: str) -> Value:
    estimate = row.measures.get(name)
    if estimate is None:
        return Value(math.nan)
    return Value(
        _number(estimate.get("value")),
        _number(estimate.get("stderr", 0.0)),
        bool(estimate.get("converged", True)),
    )


def _of_excess(row: Row, name: str) -> Value:
    whole = _of_measure(row, name)
    base = _number(row.measures.get(name, {}).get("details", {}).get(BASE_LOSS))
    return Value(whole.value - base, whole.stderr, whole.converged)


def _score(row: Row, scores: Mapping[str, float], name: str) -> float:
    """A score by name, where "headline" stands for that of the task."""
    return _number(scores.get(name.replace("headline", row.headline.name)))


def _of_last(row: Row, name: str) -> Value:
    value = _score(row, row.last, name)
    if f"last:{name}" != HEADLINE or row.wrong is None:
        return Value(value)
    return Value(value, wrong=frozenset(row.wrong))


_READERS: dict[str, Callable[[Row, str], Value]] = {
    "last": _of_last,
    "best": lambda row, name: Value(_score(row, row.best, name)),
    "measure": _of_measure,
    "excess": _of_excess,
}
