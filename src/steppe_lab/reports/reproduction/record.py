"""Experiments and their results as JSON and as rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from steppe_lab.reports.reproduction.sentences import answer, remarks
from steppe_lab.reports.text.csv_text import csv_text
from steppe_lab.reproduction.claims import AbstractClaim
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import Published
from steppe_lab.reproduction.results import ClaimResult, ExperimentResult, Row
from steppe_lab.statistics.intervals import Interval


def result_record(result: ExperimentResult) -> dict[str, Any]:
    """All numbers and verdicts; None stands for a number that is not there."""
    return {
        **_head(result.experiment),
        "scale": result.request.scale,
        "verdicts": dict(result.counts()),
        "answer": answer(result),
        "claims": {each.claim.name: _claim_result(each) for each in result.claims},
    }


def experiment_record(
    experiment: Experiment, claims: Sequence[AbstractClaim]
) -> dict[str, Any]:
    """Claims of an experiment: cells, published numbers, tolerances."""
    return {
        **_head(experiment),
        "claims": {
            claim.name: {
                **_claim(claim),
                "cells": [
                    {
                        "cell": cell.name,
                        **_published(published.get(cell.name)),
                        "scales": [
                            scale
                            for scale in claim.scales
                            if cell in claim.of_scale(scale)
                        ],
                    }
                    for cell in claim.cells
                ],
            }
            for claim in claims
            for published in (claim.published(),)
        },
    }


def result_csv(result: ExperimentResult) -> str:
    """One row for each cell, as comma-separated values."""
    return csv_text(
        [
            {
                "experiment": result.experiment.name,
                "scale": result.request.scale,
                "claim": each.claim.name,
                "cell": row.cell.name,
                "quantity": each.claim.quantity.title,
                "units": each.claim.quantity.units,
                "tolerance": each.claim.tolerance,
                **_published(row.published),
                **_flat("ours", row.ours.value),
                **_flat("protocol", row.ours.protocol),
                "verdict": row.verdict,
                "why_not": row.ours.why_not,
                "command": row.command,
            }
            for each in result.claims
            for row in each.rows
        ]
    )


def _head(experiment: Experiment) -> dict[str, Any]:
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "notes": list(experiment.notes),
    }


def _claim(claim: AbstractClaim) -> dict[str, Any]:
    return {
        "title": claim.title,
        "source": claim.source,
        "quantity": claim.quantity.title,
        "units": claim.quantity.units,
        "tolerance": claim.tolerance,
        "reproduced": claim.reproduced,
        "scales": list(claim.scales),
    }


def _claim_result(each: ClaimResult) -> dict[str, Any]:
    return {
        **_claim(each.claim),
        "study": each.study or None,
        "failure": each.failure or None,
        "remarks": remarks(each),
        "rows": [_row(row) for row in each.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "cell": row.cell.name,
        **_published(row.published),
        "ours": _interval(row.ours.value),
        "ours_by_published_protocol": _interval(row.ours.protocol),
        "why_not": row.ours.why_not,
        "verdict": row.verdict,
        "command": row.command,
    }


def _published(published: Published | None) -> dict[str, Any]:
    if published is None:
        named = ("published", "published_half_width", "published_runs")
        return {**dict.fromkeys(named), "published_bound": "", "note": ""}
    return {
        "published": published.value,
        "published_half_width": published.half_width,
        "published_runs": published.runs,
        "published_bound": published.bound,
        "note": published.note,
    }


def _interval(interval: Interval | None) -> dict[str, float | int | None] | None:
    if interval is None:
        return None
    return {
        "mean": interval.mean,
        "low": _end(interval.low),
        "high": _end(interval.high),
        "runs": interval.count,
        "samples": interval.samples,
    }


def _end(value: float) -> float | None:
    """An end of an interval, where there is one."""
    return value if math.isfinite(value) else None


def _flat(name: str, interval: Interval | None) -> dict[str, Any]:
    """An interval as columns of a row."""
    record = _interval(interval) or {}
    return {f"{name}_{key}": record.get(key) for key in ("mean", "low", "high", "runs")}
