"""Measures of checkpoints as a file: JSON, CSV or Parquet, by its ending."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steppe.errors import SettingError, install
from steppe_lab.analysis.measured import Measured
from steppe_lab.reports.measures.rows import policies, rows
from steppe_lab.reports.text.csv_text import csv_text
from steppe_lab.store.json_files import write_atomically, write_json

JSON, CSV, PARQUET = ".json", ".csv", ".parquet"


def check_file(path: Path) -> None:
    """Refuse a file of a form that is not known, or that nothing here can write.

    Raises:
        SettingError: another ending, or no pyarrow for Parquet.
    """
    if path.suffix not in (JSON, CSV, PARQUET):
        raise SettingError(
            f"--out must end in {JSON}, {CSV} or {PARQUET}, got {path}; name it so."
        )
    if path.suffix == PARQUET and importlib.util.find_spec("pyarrow") is None:
        raise SettingError(
            f"a {PARQUET} file needs pyarrow, which is not installed; "
            f"{install('parquet')}, or name a file that ends in {CSV}."
        )


def write_measures(path: Path, measured: Measured) -> None:
    """Write a file that `check_file` let pass.

    Raises:
        StoreError: it cannot be written.
    """
    if path.suffix == JSON:
        write_json(path, record(measured))
    elif path.suffix == CSV:
        write_atomically(path, csv_text(rows(measured)))
    else:
        write_atomically(path, _parquet(rows(measured)))


def record(measured: Measured) -> dict[str, Any]:
    """All results as JSON has them.

    Of a single checkpoint a mapping by measure. Of several the estimates by checkpoint
    and measure, and the comparisons of the first with each other one.
    """
    by_checkpoint = {
        checkpoint: {
            name: estimate.to_dict()
            | {"policies": policies(name, estimate, measured.references[checkpoint])}
            for name, estimate in estimates.items()
        }
        for checkpoint, estimates in measured.estimates.items()
    }
    notes = {"notes": list(measured.notes)}
    if measured.comparisons is None:
        (only,) = by_checkpoint.values()
        return {name: {**estimate, **notes} for name, estimate in only.items()}
    compared = measured.comparisons.to_dict()
    return {"checkpoints": by_checkpoint, "comparisons": compared, **notes}


def _parquet(table: Sequence[Mapping[str, Any]]) -> bytes:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    buffer = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist([dict(row) for row in table]), buffer)
    return buffer.getvalue()
