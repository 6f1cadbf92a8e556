"""The version of this package, as pages name it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The version that is installed; "from source" where none is."""
    try:
        return version("steppe")
    except PackageNotFoundError:
        return "from source"
