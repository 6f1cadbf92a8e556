"""Recipes of files: settings and digests that their values depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steppe.errors import DataError
from steppe.surfaces.files.exact_json import from_json, to_json


def check_recipe(
    path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Refuse a file whose recipe is not the one that is asked for.

    Args:
        path: of the file, for the message.
        stored: recipe of the file, such as the details of its surface.
        wanted: the recipe asked for; values are compared as the file would hold them.

    Raises:
        DataError: the first setting that differs, or that one of them has not.
    """
    asked = from_json(to_json(dict(wanted)))
    for name in [*asked, *stored]:
        left, right = (_text(each, name) for each in (stored, asked))
        if left != right:
            raise DataError(
                f"{path} has another recipe than the one asked for: {name} is "
                f"{left} in the file and {right} here; name another file, or pass "
                "overwrite=True to replace it."
            )


def _text(recipe: Mapping[str, Any], name: str) -> str:
    # Texts, as values may hold NaN, which is not equal to itself, or tensors.
    return to_json(recipe[name]) if name in recipe else "missing"
