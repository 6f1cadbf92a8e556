"""The rows of a tracked spectrum, and their files, each replaced at once by the next.

Shape letters: D parameters in all, K eigenpairs, R rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steppe.files import replace_file

Row = dict[str, float]


def cosines_of(gradients: Sequence[Tensor]) -> Row:
    """Mean, mean magnitude and spread of the cosines, column by column."""
    if not gradients:
        return {}
    drawn = torch.stack(list(gradients)).double().cpu()
    cosines = drawn[:, :-1] / drawn[:, -1:].clamp(min=1e-300)
    names = [str(i) for i in range(cosines.shape[1] - 1)] + ["fbg"]
    row: Row = {}
    for name, column in zip(names, cosines.T, strict=True):
        row[f"alig/{name}_mean"] = float(column.mean())
        row[f"alig/{name}_abs_mean"] = float(column.abs().mean())
        row[f"alig/{name}_std"] = float(column.std(correction=0))
    return row


def shares_of(name: str, drawn: Sequence[Tensor]) -> Row:
    """Mean of the sum of |U'x|, and of that over the norm of x."""
    if not drawn:
        return {}
    both = torch.stack(list(drawn)).double().cpu()
    sums = both[:, :-2].abs().sum(1)
    shares = sums / both[:, -1].clamp(min=1e-300)
    return {f"{name}_sum": float(sums.mean()), f"{name}_norm_sum": float(shares.mean())}


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


def write_vectors(
    path: Path, vectors: Tensor, names: Sequence[str], params: Sequence[Tensor]
) -> None:
    """Write vectors, shape (D, K), with the names and shapes of their parts."""
    arrays = {
        "Ev": vectors.cpu().numpy(),
        "names": np.array(names),
        "shapes": np.array([str(tuple(p.shape)) for p in params]),
    }
    replace_file(path, _packed(arrays))


def _table(rows: Sequence[Row]) -> str:
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
