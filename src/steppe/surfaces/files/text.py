"""Surfaces as text: a table of points, and JSON. They are not read back."""

from __future__ import annotations

import csv
import io
import json
from os import PathLike
from pathlib import Path

from steppe.files import replace_file
from steppe.surfaces.surface import Surface


def save_csv(surface: Surface, path: str | PathLike[str]) -> None:
    """Write one row for each point, x changing fastest, with all digits.

    Values that are not finite are "nan", "inf" and "-inf"; `computed` is True or False.

    Args:
        surface: of any number of axes.
        path: replaced when it exists.

    Raises:
        OSError: no space, or no right to write.
    """
    rows = surface.rows()
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(Path(path), file.getvalue().encode(errors="backslashreplace"))


def save_json(surface: Surface, path: str | PathLike[str]) -> None:
    """Write all fields, with null for numbers that are not finite.

    Args:
        surface: of any number of axes.
        path: replaced when it exists.

    Raises:
        OSError: no space, or no right to write.
    """
    text = json.dumps(surface.to_dict(), allow_nan=False, ensure_ascii=False)
    # Halves of characters, as names of files may hold, are escaped: UTF-8 has none.
    replace_file(Path(path), f"{text}\n".encode(errors="backslashreplace"))
