"""The statistics of a study as JSON and as rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from steppe_lab.reports.study.results import Predictor, StudySummary
from steppe_lab.reports.study.sentences import answer
from steppe_lab.reports.text.csv_text import csv_text


def record(summary: StudySummary) -> dict[str, Any]:
    """All numbers of a study by name; NaN where one is not defined."""
    table, coverage = summary.table, summary.coverage
    return {
        "name": table.name,
        "gap": table.gap,
        "factors": list(table.factors),
        "answer": answer(summary),
        "notes": list(summary.notes),
        "coverage": {
            "planned": coverage.planned,
            "done": coverage.done,
            "left_out": [
                {"reason": reason.text, "trials": [d.trial for d in reason.trials]}
                for reason in coverage.reasons
            ],
            "levels": {
                name: {str(level): count for level, count in levels}
                for name, levels in coverage.levels.items()
            },
        },
        "refused": [dataclasses.asdict(each) for each in table.refused],
        "measures": [_predictor(each) for each in summary.measures],
        "best_baseline": summary.best,
        "baselines": [_predictor(each) for each in summary.baselines],
        "within": [
            {
                "measure": each.measure,
                "factor": each.factor,
                "pooled": each.pooled,
                "within": dataclasses.asdict(each.within),
                "groups": {
                    str(level): {"tau": tau, "networks": count}
                    for level, (tau, count) in each.groups.items()
                },
                "simpson": bool(each.warning),
                "warning": each.warning,
            }
            for each in summary.within
        ],
        "two_sample_ks": [dataclasses.asdict(each) for each in summary.splits],
        "along": [
            {
                "factor": each.factor,
                "column": each.column,
                "tau": each.tau,
                "means": [
                    {"level": level, **_mean(interval)}
                    for level, interval in each.means.items()
                ],
            }
            for each in summary.along
        ],
        "scores": _scores(summary),
        "robust": _robust(summary),
        "optima": [dataclasses.asdict(each) for each in summary.optima],
    }


def rows(summary: StudySummary) -> list[dict[str, Any]]:
    """One flat row for each measure and baseline."""
    return [
        {
            "table": summary.table.name,
            "name": each.name,
            "kind": "baseline" if each.is_baseline else "measure",
            "networks": each.count,
            "tau": each.tau.value,
            "tau_low": each.tau.low,
            "tau_high": each.tau.high,
            "tau_p_holm": each.tau_p,
            "difference": each.difference.value,
            "difference_low": each.difference.low,
            "difference_high": each.difference.high,
            "difference_p_holm": each.difference_p,
            "psi": each.psi,
            "information": each.information.value,
            "information_given": " ".join(each.information.given),
            "worst_sign_error": each.worst.error,
            "worst_environment": each.worst.words,
            **{
                f"residual_tau_{kind}": each.residual.get(kind)
                for kind in ("raw", "log", "rank")
            },
            "noise_ceiling": each.ceiling,
            **{
                f"tau_along_{name}": each.by_factor.get(name)
                for name in summary.table.factors
            },
        }
        for each in summary.predictors
    ]


def table_csv(summary: StudySummary) -> str:
    """The table itself as comma-separated values, floats with nine digits."""
    columns = summary.table.columns
    return csv_text(
        [
            dict(zip(columns, map(_short, cells), strict=True))
            for cells in zip(*columns.values(), strict=True)
        ]
    )


def _short(cell: Any) -> Any:
    # All seventeen digits of 3,000 networks would be half of the page.
    return float(f"{cell:.9g}") if isinstance(cell, float) else cell


def _predictor(each: Predictor) -> dict[str, Any]:
    numbers = dataclasses.asdict(each)
    numbers.pop("is_baseline")
    return {key: dict(v) if isinstance(v, Mapping) else v for key, v in numbers.items()}


def _scores(summary: StudySummary) -> dict[str, Any] | None:
    table = summary.scores
    if table is None:
        return None

    def score(each: Any) -> dict[str, Any] | None:
        return each and {**_mean(each.interval), "normal_half_width": each.normal}

    return {
        "score": table.score,
        "factors": list(table.factors),
        "best_on_test": table.best_on_test,
        "rows": [
            {
                "levels": list(row.levels),
                "networks": row.count,
                "last": score(row.last),
                "best": score(row.best),
            }
            for row in table.rows
        ],
    }


def _robust(summary: StudySummary) -> dict[str, Any] | None:
    table = summary.robust
    if table is None:
        return None

    def cell(each: Any) -> dict[str, Any] | None:
        return each and {**_mean(each.score.interval), "stderr": each.stderr}

    return {
        "factors": list(table.factors),
        "rows": [
            {
                "levels": list(row.levels),
                "networks": row.count,
                "accuracies": dict(zip(table.columns, map(cell, row.cells))),
            }
            for row in table.rows
        ],
    }


def _mean(interval: Any) -> dict[str, Any]:
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "networks": interval.count,
    }
