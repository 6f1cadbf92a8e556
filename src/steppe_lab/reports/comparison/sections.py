"""Cells of the tables of a comparison's page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from steppe.errors import SteppeError
from steppe.measures import MEASURES
from steppe.pages.sources import Passage, cited
from steppe_lab.reports.comparison.quantities import Quantity, Value, read, spec_of
from steppe_lab.reports.comparison.summary import Change, Contender, Summary
from steppe_lab.reports.text.cells import TableCell
from steppe_lab.reports.text.numbers import (
    mean_of,
    number,
    percent,
    with_ends,
    with_error,
)
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.studies.rows import Comparison


@dataclass(frozen=True, kw_only=True)
class Definition:
    """How one measure was taken."""

    title: str  # as in tables
    name: str
    summary: str
    settings: str
    units: str
    sharper_is: str
    keeps: str  # changes of the network that leave the measure as it is
    cost: str
    source: list[Passage]


def mean_cell(summary: Summary, contender: Contender, quantity: Quantity) -> TableCell:
    """Mean ± half an interval, strong where it is the best beyond noise."""
    cell = contender.cells[quantity.key]
    if cell.mean is None:
        return TableCell("–", faint=True)
    own = f"each run ± {number(cell.stderr, 2)}" if cell.stderr > 0 else ""
    best = summary.clear_best(quantity.key) == contender.optimizer
    return TableCell(mean_of(cell.mean, quantity.share), own, strong=best)


def change_cell(change: Change | None, quantity: Quantity) -> TableCell:
    """A difference or a ratio with its interval; faint within noise."""
    if change is None:
        return TableCell("–", faint=True)
    gap = change.interval
    ends = with_ends(gap, none=change.none, share=quantity.share)
    text = f"{ends.mean} points" if quantity.share else ends.mean
    text = f"× {text}" if change.scale == "ratio" else text
    if gap.count < 2:
        return TableCell(text, "one seed", faint=True)
    if change.agreed:
        text = "the same" if gap.mean == change.none else text
        return TableCell(text, f"for all {gap.count} seeds", faint=not change.clear)
    remark = ", within noise" if change.noise else ""
    remark = f", not clear among {change.among}" if change.alone else remark
    return TableCell(text, ends.both + remark, faint=not change.clear)


def run_rows(comparison: Comparison, summary: Summary) -> list[dict[str, Any]]:
    """Every network: optimizer, seed, its numbers and the beginnings of its ids."""
    # A measure without the loss follows from two columns that are there.
    asked = [q for q in summary.quantities if not q.key.startswith("excess:")]
    return [
        {
            "optimizer": row.optimizer,
            "seed": row.seed,
            "cells": [_run_cell(read(q, row, comparison), q) for q in asked],
            "ids": [row.training[:12], row.analysis[:12]],
        }
        for name in comparison.settings.optimizers
        for row in comparison.of(name)
    ]


def setting_rows(settings: CompareSettings) -> list[tuple[str, str, str]]:
    """Name, value and default."""
    fields = type(settings).model_fields
    return [
        (name, _plain(getattr(settings, name)), _plain(field.default))
        for name, field in fields.items()
    ]


def optimizer_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Label, settings of the method and of an average, those of the base."""
    table = []
    for name in comparison.settings.optimizers:
        rows = comparison.of(name)
        if not rows:
            table.append((name, "no finished run", ""))
            continue
        # All seeds of an optimizer have one recipe but for the seed.
        recipe = rows[0].settings
        wraps = recipe.get("optimizer")
        method = _choice(wraps) if wraps else "the base optimizer alone"
        if recipe.get("average"):
            method += f"; weights averaged by {_choice(recipe['average'])}"
        table.append((name, method, _choice(recipe.get("base") or {})))
    return table


def definitions(settings: CompareSettings) -> list[Definition]:
    """Facts about every measure, from where it is registered."""
    return [_definition(text) for text in settings.measures]


def _definition(text: str) -> Definition:
    spec = spec_of(text)
    try:
        choice = MEASURES.parse(text)
        settings = _pairs(choice.settings)
        name = choice.name
    except SteppeError:
        name, _, settings = text.partition(":")
    if spec is None:
        return Definition(
            title=text,
            name=text,
            summary="",
            settings=settings,
            units="",
            sharper_is="",
            keeps="",
            cost="",
            source=[],
        )
    return Definition(
        title=spec.title,
        name=name,
        summary=spec.summary,
        settings=settings,
        units=spec.units,
        sharper_is=spec.sharper_is,
        keeps=", ".join(spec.invariant_to).replace("_", " "),
        cost=spec.cost_text,
        source=cited(spec.source),
    )


def _run_cell(score: Value, quantity: Quantity) -> TableCell:
    if not math.isfinite(score.value):
        return TableCell("not finite", faint=True)
    if quantity.share:
        return TableCell(percent(score.value))
    small = "" if score.converged else "not converged"
    return TableCell(with_error(score.value, score.stderr), small)


def _choice(choice: dict[str, Any]) -> str:
    pairs = _pairs(choice.get("settings") or {})
    return (
        f"{choice.get('name', '')}: {pairs}" if pairs else str(choice.get("name", ""))
    )


def _pairs(settings: Any) -> str:
    return ", ".join(f"{key} = {_plain(value)}" for key, value in settings.items())


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(_plain, value))
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
