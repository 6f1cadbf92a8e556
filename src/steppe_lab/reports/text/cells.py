"""Cells of tables: a text, a remark below it, its emphasis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableCell:
    """The text of a cell with a remark below it, and its emphasis."""

    text: str
    small: str = ""
    strong: bool = False
    faint: bool = False


NONE = TableCell("–", faint=True)


@dataclass(frozen=True)
class CellTable:
    """Rows of cells below their heads; the first cell of a row is its name."""

    name: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
