"""Numbers with their errors, and tables of one screen, as text and as HTML."""

from __future__ import annotations

import abc
import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

ROWS = 24  # of a table, at most
WIDTH = 79  # of a line of text
CELL = 36  # letters of a cell, at most
UNKNOWN = "± not known"  # error of one draw
SMALLEST, LARGEST = 1e-290, 1e290  # powers of ten beyond leave the range of floats


def with_error(value: float, error: float, spec: str = "") -> str:
    """A value ± its error.

    Without a format, the error has two digits where its first three are 100 to 354, and
    one elsewhere (Particle Data Group, 2024, Review of Particle Physics, section 5.3),
    and the value as many decimal places.

    Args:
        value: of any size.
        error: >= 0; 0 for none, infinite for one that is not known.
        spec: format of both numbers, such as ".3g".

    Example:
        >>> with_error(0.23456, 0.0412), with_error(0.23456, 0.0123)
        ('0.23 ± 0.04', '0.235 ± 0.012')
        >>> with_error(1234567.0, 4321.0), with_error(0.5, 0.0)
        ('(1.235 ± 0.004)e+06', '0.5')
        >>> with_error(0.5, math.inf)
        '0.5 ± not known'
    """
    if error == math.inf:
        return f"{with_error(value, 0.0, spec)} {UNKNOWN}"
    if error == 0:
        return format(value, spec or ".6g")
    extreme = error < SMALLEST or not abs(value) < LARGEST or not error < LARGEST
    if spec or extreme:
        spec = spec or ".6g"
        return f"{value:{spec}} ± {error:{spec}}"
    size = math.floor(math.log10(max(abs(value), error)))
    if not -4 <= size < 6:
        scaled = with_error(value * 10.0**-size, error * 10.0**-size)
        return f"({scaled})e{size:+03d}"
    places = _places(error)
    return f"{_fixed(value, places)} ± {_fixed(error, places)}"


def interval_text(low: str, high: str) -> str:
    """An interval by its ends, in words where one of them is not known.

    Args:
        low: text of the lower end; "" where there is none.
        high: text of the upper end; "" where there is none.

    Example:
        >>> interval_text("0.1", "0.2"), interval_text("0.1", ""), interval_text("", "")
        ('0.1 to 0.2', 'above 0.1', 'not known')
    """
    if low and high:
        return f"{low} to {high}"
    if low:
        return f"above {low}"
    return f"below {high}" if high else "not known"


def ends(low: float, high: float, least: float = -math.inf) -> str:
    """The ends of an interval with three digits, in words where one is not known.

    Args:
        low: lower end; NaN or an infinity where there is none.
        high: upper end, likewise.
        least: value that nothing is below, such as 0 of a ratio: a lower end there
            tells nothing where there is no upper one.

    Example:
        >>> ends(0.1, 0.25), ends(-math.inf, 0.25), ends(0.0, math.inf, least=0.0)
        ('0.1 to 0.25', 'below 0.25', 'not known')
    """
    known = [f"{end:.3g}" if math.isfinite(end) else "" for end in (low, high)]
    if low == least and not known[1]:
        known[0] = ""
    return interval_text(*known)


@dataclass(frozen=True)
class Table:
    """Cells of text below their columns, and sentences below them."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    most: int = ROWS  # rows as text; the middle of more is left out
    width: int = WIDTH  # of the notes

    def __str__(self) -> str:
        shown = [[_short(cell) for cell in row] for row in self.rows]
        left_out = len(shown) - self.most
        if left_out > 0:
            half = self.most // 2
            middle = [f"... {left_out} more", *[""] * (len(self.columns) - 1)]
            shown = [*shown[:half], middle, *shown[-half:]]
        lines = [list(self.columns), *shown]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        aligned = [
            "  ".join(cell.ljust(n) for cell, n in zip(line, widths, strict=True))
            for line in lines
        ]
        notes = [textwrap.fill(note, self.width) for note in self.notes]
        return "\n".join([*(line.rstrip() for line in aligned), *notes])

    def html(self) -> str:
        """The table as HTML, all rows of it."""
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>"
            for row in self.rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)


class AbstractTabulated(abc.ABC):
    """A result that prints as a table of one screen, in notebooks as HTML."""

    @abc.abstractmethod
    def table(self) -> Table:
        """The result as text in rows and columns."""

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().html()


def aligned(texts: Sequence[str]) -> list[str]:
    r"""Texts of numbers with their decimal points, and their errors, in one column.

    Example:
        >>> print(*aligned(["0.25 ± 0.03", "1000", "-3.5e+07 ± 1e+06"]), sep="\n")
           0.25    ± 0.03
        1000
          -3.5e+07 ± 1e+06
    """
    parts = []
    for text in texts:
        number, space, error = text.partition(" ")
        whole, point, decimals = number.partition(".")
        parts.append((whole, point + decimals, space + error))
    left = max((len(whole) for whole, _, _ in parts), default=0)
    right = max((len(decimals) for _, decimals, _ in parts), default=0)
    lines = (f"{w:>{left}}{decimals:<{right}}{e}" for w, decimals, e in parts)
    return [line.rstrip() for line in lines]


def joined(names: Sequence[str]) -> str:
    """Names with commas and a last "and".

    Example:
        >>> joined(["a"]), joined(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _places(error: float) -> int:
    """Decimal places of the last digit that an error has."""
    size = math.floor(math.log10(error))
    return 1 - size if round(error * 10.0 ** (2 - size)) < 355 else -size


def _fixed(value: float, places: int) -> str:
    return f"{round(value, places):.{max(places, 0)}f}"


def _short(cell: str) -> str:
    return cell if len(cell) <= CELL else f"{cell[: CELL - 3]}..."
