"""A comparison as flat rows, one per network, for other programs."""

from __future__ import annotations

import csv
import io
from typing import Any

from steppe_lab.reports.quantities import BASE_LOSS
from steppe_lab.studies.compare import Comparison, Row


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One dictionary of plain values per network, all with the same keys.

    Scores are shares and losses after the last epoch; `best_...` are at the epoch that
    was best on the samples judged on. A measure has four keys: its name, and that with
    `_stderr`, `_samples` and `_converged`; one that contains the loss itself also has
    `_minus_loss`. What a network lacks is None.
    """
    flat = [_flat(comparison, row) for row in comparison.rows]
    keys = dict.fromkeys(key for row in flat for key in row)
    return [{key: row.get(key) for key in keys} for row in flat]


def to_csv(comparison: Comparison) -> str:
    """The rows as comma-separated values with a heading; no rows give no text."""
    found = rows(comparison)
    if not found:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return buffer.getvalue()


def _flat(comparison: Comparison, row: Row) -> dict[str, Any]:
    held_out = comparison.settings.held_out
    flat: dict[str, Any] = {
        "optimizer": row.optimizer,
        "seed": row.seed,
        "held_out": held_out,
        "gradients_per_step": row.gradients,
        **row.last,
        **{f"best_{key}": value for key, value in row.best.items()},
    }
    for name, found in row.measures.items():
        flat[name] = found.get("value")
        for part in ("stderr", "samples", "converged"):
            flat[f"{name}_{part}"] = found.get(part)
        base, value = found.get("details", {}).get(BASE_LOSS), found.get("value")
        if base is not None and value is not None:
            flat[f"{name}_minus_loss"] = value - base
    return flat | {"training": row.training, "analysis": row.analysis}
