"""The rows of a tracked spectrum, and their files, each replaced at once by the next.

Shape letters: D parameters in all, K eigenpairs, R rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from steppe.files import replace_file
from steppe.tracking.cuts import FILE, Cut, Cuts, arrays_of
from steppe.tracking.statistics import Row


class Writer(Protocol):
    """Protocol of a writer of scalars, such as TensorBoard's `SummaryWriter`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Take one number."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrackFiles:
    """Files of a tracker, and the writer that takes its numbers.

    Args:
        folder: of the files, created where it is missing; None writes none.
        save_vectors: write the vectors of every row to a file.
        writer: takes every number of a row by its column's name.
    """

    folder: Path | None
    save_vectors: bool
    writer: Writer | None

    def write(
        self,
        rows: Sequence[Row],
        step: int,
        vectors: Tensor,
        params: Mapping[str, Tensor],
    ) -> None:
        """Write the last of R rows, and the files with all of them.

        Args:
            rows: of all measurements.
            step: of the last one.
            vectors: of the last one, shape (D, K).
            params: of the model by name.
        """
        if self.writer is not None:
            for name, value in rows[-1].items():
                self.writer.add_scalar(name, value, step)
        if self.folder is None:
            return
        write_rows(self.folder, rows)
        if self.save_vectors:
            write_vectors(self.folder / f"top_K_ev_{step}.npz", vectors, params)

    def write_cuts(
        self,
        measured: Sequence[Mapping[int, Cut]],
        rows: Sequence[Row],
        settings: Cuts,
        samples: int,
    ) -> None:
        """Write the cuts of all rows; see `arrays_of`."""
        if self.folder is not None:
            arrays = arrays_of(measured, rows, settings, samples)
            replace_file(self.folder / FILE, _packed(arrays))

    def write_decomposition(self, changes: Mapping[str, Any], step: int) -> None:
        """Write the changes of the loss by the parts of a step."""
        if self.folder is not None:
            path = self.folder / f"decompose_{step}.json"
            replace_file(path, json.dumps(changes).encode())


def write_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write R rows as `history.csv`, and their eigenvalues as `lanczos.npz`."""
    replace_file(folder / "history.csv", _table(rows).encode())
    names = ("residuals", "epoch", "step", "products")
    sources = ("residual", *names[1:])
    arrays = {
        name: np.array([row[source] for row in rows])
        for name, source in zip(names, sources, strict=True)
    }
    values = np.array([_eigenvalues(row) for row in rows])
    replace_file(folder / "lanczos.npz", _packed({"top_K_e": values, **arrays}))


def write_vectors(path: Path, vectors: Tensor, params: Mapping[str, Tensor]) -> None:
    """Write vectors, shape (D, K), with the names and shapes of the parameters."""
    arrays = {
        "Ev": vectors.cpu().numpy(),
        "names": np.array(list(params)),
        "shapes": np.array([str(tuple(p.shape)) for p in params.values()]),
    }
    replace_file(path, _packed(arrays))


def _table(rows: Sequence[Row]) -> str:
    # A later row may have more columns: the caller adds numbers of its own.
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _eigenvalues(row: Row) -> list[float]:
    return [value for name, value in row.items() if name.startswith("top_K_e/")]


def _packed(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
