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
