"""Tensors that a random direction leaves where they are, or moves along themselves.

Source: Li et al., 2018, arXiv:1712.09913, and the published code: tensors of at most
one dimension (biases, batch norm) stay put with "biasbn", and are their own direction
without it. Patterns of names are added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from steppe.errors import SettingError, brief

Ignore = str | Sequence[str]  # "biasbn", "none", patterns of names, or several of them


@dataclass(frozen=True)
class Ignored:
    """Tensors that are not moved at random."""

    vectors: (
        bool  # those of at most one dimension stay; else they move along themselves
    )
    names: frozenset[str]  # stay, whatever their shape

    def leaves(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor stays where it is."""
        return name in self.names or (self.vectors and tensor.dim() <= 1)


def ignored_by(ignore: Any, names: Iterable[str]) -> Ignored:
    """Which tensors a rule leaves where they are.

    Args:
        ignore: "biasbn" for all tensors of at most one dimension; "none" for none, so
            that each of those is its own direction; a glob pattern of names, such as
            "head.*", for "biasbn" and the tensors it matches; or several of these.
        names: of all tensors.

    Raises:
        SettingError: neither, a pattern without a tensor, or "biasbn" beside "none".
    """
    entries = (ignore,) if isinstance(ignore, str) else ignore
    if not isinstance(entries, list | tuple) or not all(
        isinstance(entry, str) for entry in entries
    ):
        raise SettingError(
            "ignore must be 'biasbn', 'none' or patterns of names such as 'head.*', "
            f"got {brief(ignore)}."
        )
    if {"biasbn", "none"} <= {*entries}:
        raise SettingError("ignore must not hold both 'biasbn' and 'none'; choose one.")
    names, still = list(names), set()
    for pattern in entries:
        if pattern in ("biasbn", "none"):
            continue
        # A name may hold brackets of its own, which a glob would read as a set.
        fitting = {n for n in names if n == pattern or fnmatchcase(n, pattern)}
        if not fitting:
            raise SettingError(
                "ignore must be 'biasbn', 'none' or patterns of names such as "
                f"'head.*', got {pattern!r}, which matches none of {_some(names)}."
            )
        still |= fitting
    return Ignored("none" not in entries, frozenset(still))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
