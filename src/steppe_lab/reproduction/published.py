"""Published numbers, and the cells of the tables that they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity that a claim is about.

    Args:
        name: column of the table of a study that has it, such as best_test_error.
        title: in tables and sentences, such as "test error at the best epoch".
        units: of the published numbers, such as "%"; "" for none.
        factor: from our values to those units; 100 for shares in percent.
    """

    name: str
    title: str
    units: str = ""
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that a paper, its code or its files state.

    Args:
        value: in the units of the quantity.
        half_width: of its interval as published; 0 where none is.
        runs: that it is a mean of.
        note: a fact about it that readers of the number must know.
    """

    value: float
    half_width: float = 0.0
    runs: int = 1
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row of a claim: one published number and how it is made.

    Args:
        name: words joined by slashes, such as cifar10/resnet18/lpf_sgd.
        published: the number; None where the source states none.
        settings: of its training, by the names that `steppe train` has, that differ
            from those of the claim.
        scales: further settings at a scale, by its name.
    """

    name: str
    published: Published | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A size that a claim is tested at.

    Args:
        settings: of all trainings at this scale, over those of the claim and below
            those of a cell at this scale.
        cells: names of the cells that are run; None for all.
        seeds: of each cell.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[str, ...] | None = None
    seeds: int = 1
