"""Text files of numbers with commas between them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.errors import DataError

MOST_BYTES = 2**30  # of a file; the official ones have up to 400 MB


def read_numbers(
    path: Path, kind: type, again: str, *, columns: int = 2
) -> NDArray[Any]:
    """Lines of numbers, shape (lines, numbers in a line).

    Args:
        path: the file.
        kind: type of the numbers, such as numpy.float32.
        again: half sentence that says where to get an intact file.
        columns: numbers in a line of a file without lines.

    Raises:
        DataError: a file that cannot be read, or holds anything else.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a file without lines
            rows: NDArray[Any] = np.loadtxt(
                path, dtype=kind, delimiter=",", ndmin=2, comments=None
            )
        return rows if len(rows) else np.empty((0, columns), dtype=kind)
    except (OSError, ValueError, OverflowError) as error:
        reason = str(error).partition("; use")[0].partition("\n")[0].rstrip(".")
        raise DataError(
            f"{path} must hold lines of numbers with commas between them ({reason}); "
            f"{again}."
        ) from error
