"""Barriers of the loss between several networks, and which of them share a basin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steppe.errors import DataError, SettingError, check_choice, check_range
from steppe.results.estimate import Estimate
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table, aligned, joined, with_error

Pair = tuple[str, str]  # names of two networks, in their order


@dataclass(frozen=True, kw_only=True, repr=False)
class Barriers(AbstractTabulated):
    """Barriers between every two of several networks, along one or more paths.

    Shape letters: N networks.
    """

    names: tuple[str, ...]  # of the networks
    # By path, such as "straight", the barrier of each pair.
    paths: Mapping[str, Mapping[Pair, Estimate]]
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = set(itertools.combinations(self.names, 2))
        for path, barriers in self.paths.items():
            if set(barriers) != pairs:
                raise SettingError(
                    f"barriers along {path} must be those of each of the {len(pairs)} "
                    f"pairs of {len(self.names)} networks, got {len(barriers)}."
                )

    def matrix(self, path: str | None = None) -> Tensor:
        """Barriers, shape (N, N), float64: symmetric, 0 with itself, NaN if refused.

        Args:
            path: such as "straight"; None for the first one.
        """
        return self._filled({p: e.value for p, e in self._along(path).items()})

    def errors(self, path: str | None = None) -> Tensor:
        """Their standard errors over the samples, shape (N, N), float64."""
        return self._filled({p: e.stderr for p, e in self._along(path).items()})

    def linkage(self, path: str | None = None) -> list[tuple[int, int, float, int]]:
        """Merges of the networks by single linkage, as a dendrogram draws them.

        Two groups merge at the lowest barrier between any network of one and any of the
        other: that is the highest barrier on the best way over other networks. A pair
        that was refused is never one that merges; groups that are left merge at inf.

        Returns:
            N - 1 rows (first, second, barrier, size) in the layout of
            `scipy.cluster.hierarchy`: group N + i is that of row i.
        """
        index = {name: i for i, name in enumerate(self.names)}
        ways = [
            (math.inf if math.isnan(e.value) else e.value, index[a], index[b])
            for (a, b), e in self._along(path).items()
        ]
        group, sizes = {i: i for i in index.values()}, dict.fromkeys(index.values(), 1)
        rows: list[tuple[int, int, float, int]] = []
        for barrier, a, b in sorted(ways):
            first, second = sorted((group[a], group[b]))
            if first == second:
                continue
            number = len(self.names) + len(rows)
            sizes[number] = sizes[first] + sizes[second]
            rows.append((first, second, barrier, sizes[number]))
            for member, own in group.items():
                if own in (first, second):
                    group[member] = number
        return rows

    def clusters(
        self, threshold: float, path: str | None = None
    ) -> list[tuple[str, ...]]:
        """Networks that share a basin: those that barriers up to a threshold connect.

        Args:
            threshold: the highest barrier within a basin, >= 0, in units of the loss.
            path: such as "straight"; None for the first one.

        Returns:
            Names of the networks of each basin, in their order.

        Raises:
            SettingError: a threshold below 0, or an unknown path.
        """
        check_range("threshold", threshold, 0.0)
        members: dict[int, tuple[int, ...]] = {i: (i,) for i in range(len(self.names))}
        for i, (first, second, barrier, _) in enumerate(self.linkage(path)):
            if barrier <= threshold:
                both = members.pop(first) + members.pop(second)
                members[len(self.names) + i] = tuple(sorted(both))
        return [
            tuple(self.names[i] for i in group) for group in sorted(members.values())
        ]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each pair and path, all with the same columns."""
        return [
            {
                "first": a,
                "second": b,
                "path": path,
                "at": estimate.details.get("at", math.nan),
                **estimate.row(),
            }
            for path, barriers in self.paths.items()
            for (a, b), estimate in barriers.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Names, matrices, errors, merges and estimates as JSON has them."""
        along = {
            path: {
                "matrix": plain(self.matrix(path)),
                "errors": plain(self.errors(path)),
                "linkage": plain(self.linkage(path)),
                "pairs": [
                    {"first": a, "second": b, "barrier": estimate.to_dict()}
                    for (a, b), estimate in barriers.items()
                ],
            }
            for path, barriers in self.paths.items()
        }
        return {
            "names": list(self.names),
            "paths": along,
            "details": plain(self.details),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Barriers:
        """The result that `to_dict` gave.

        Raises:
            DataError: no record of barriers.
        """
        try:
            paths = {
                path: {
                    (pair["first"], pair["second"]): Estimate.from_dict(pair["barrier"])
                    for pair in along["pairs"]
                }
                for path, along in record["paths"].items()
            }
            names, details = tuple(record["names"]), dict(record["details"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "the record of barriers must be a mapping with names, paths and "
                "details, as Barriers.to_dict gives it."
            ) from error
        return cls(names=names, paths=paths, details=details)

    def table(self) -> Table:
        """One row for each pair, and a column for each path."""
        columns = [
            aligned([_shown(barriers[pair]) for pair in self._pairs()])
            for barriers in self.paths.values()
        ]
        rows = [
            (" - ".join(pair), *cells)
            for pair, *cells in zip(self._pairs(), *columns, strict=True)
        ]
        heads = [f"barrier, {path}" for path in self.paths]
        return Table(("networks", *heads), rows, self.refusals())

    def refusals(self) -> list[str]:
        """A sentence for each path and reason, with the pairs that it refused."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for path, barriers in self.paths.items():
            for pair, estimate in barriers.items():
                if estimate.refusal:
                    named = reasons.setdefault((path, estimate.refusal), [])
                    named.append(" - ".join(pair))
        return [
            f"{path} was not measured of {joined(pairs)}: {reason}"
            for (path, reason), pairs in reasons.items()
        ]

    def _pairs(self) -> list[Pair]:
        return list(itertools.combinations(self.names, 2))

    def _along(self, path: str | None) -> Mapping[Pair, Estimate]:
        chosen = next(iter(self.paths)) if path is None else path
        check_choice("path", chosen, list(self.paths))
        return self.paths[chosen]

    def _filled(self, values: Mapping[Pair, float]) -> Tensor:
        index = {name: i for i, name in enumerate(self.names)}
        matrix = torch.zeros(
            len(self.names), len(self.names), dtype=torch.float64, device="cpu"
        )
        for (a, b), value in values.items():
            matrix[index[a], index[b]] = matrix[index[b], index[a]] = value
        return matrix


def named_networks(names: Iterable[str]) -> tuple[str, ...]:
    """Names of two or more networks, each once.

    Raises:
        SettingError: fewer, or a name that stands for two.
    """
    chosen = tuple(names)
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise SettingError(
            "barriers need two or more networks of different names, got "
            f"{', '.join(map(repr, chosen)) or 'none'}."
        )
    return chosen


def _shown(estimate: Estimate) -> str:
    return "" if estimate.refusal else with_error(estimate.value, estimate.stderr)
