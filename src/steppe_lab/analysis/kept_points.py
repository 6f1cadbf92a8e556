"""Folders where finished points of landscapes and fits of curves are kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

from steppe_lab.store.json_files import cannot

FOLDER = "landscapes"  # below the folder of all results
NOT_KEPT = "batches of other things than tensors"


def kept_folder(keep: Path, recipe: str) -> Path:
    """The folder of points or a fit with a recipe; it is made where it is missing.

    Args:
        keep: folder of all results.
        recipe: digest of all that the content follows from.

    Raises:
        StoreError: it cannot be written.
    """
    place = keep / FOLDER / recipe[:16]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):  # rights alone do not tell
            pass
    except OSError as error:
        raise cannot("write", place, error) from error
    return place
