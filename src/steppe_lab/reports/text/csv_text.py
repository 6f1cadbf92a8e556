"""Rows as comma-separated values."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys, below a heading; no rows give no text.

    A text that a spreadsheet would compute gets an apostrophe before it; a number that
    is not there, None or NaN, is an empty cell.
    """
    if not rows:
        return ""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(_cell, rows[0]))
    writer.writerows(map(_cell, row.values()) for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")  # would end a line in some readers
    # A spreadsheet takes a text that begins so for a formula, and computes it.
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
