"""Tables of cells on a terminal; wide ones go on in a further table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.table import Table
from rich.text import Text

from steppe_lab.reports.text.cells import CellTable, TableCell

WIDTH = 100  # columns of a terminal
NAMES = 24  # columns of the names, at most
FOLDED = 14  # columns of the names, at least, where that keeps a table whole
BETWEEN = 2  # columns between two columns of a table
WHOLE = 32  # columns up to which a cell stays on one line


def in_parts(
    whole: CellTable, width: int = WIDTH, names: int = NAMES
) -> Iterator[Table]:
    """A table, or several below each other that all have the names of the rows.

    Args:
        whole: the table; remarks that begin with [ and those of names are shown. With
            an empty name it has no title.
        width: of the terminal, in columns.
        names: columns of the names of rows, at most; longer ones fold.
    """
    body = [list(_texts(row)) for row in whole.rows]
    least = [
        _room(head, [len(row[place]) for row in body])
        for place, head in enumerate(whole.heads)
    ]
    least[0] = min(max([0, *(len(row[0]) for row in body)]), names)
    # Names on two lines are easier to read than a table in two parts.
    over = _width(range(len(least)), least) - width
    if 0 < over <= least[0] - FOLDED:
        least[0] -= over
    parts: list[list[int]] = [[0]]
    for place in range(1, len(whole.heads)):
        if _width([*parts[-1], place], least) > width and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(place)
    # A lone column gets company from the part before it.
    if len(parts) > 1 and len(parts[-1]) == 2 and len(parts[-2]) > 3:
        parts[-1].insert(1, parts[-2].pop())
    for part, places in enumerate(parts):
        # Heads stay on one line where the table has room for all of them.
        heads = [max(n, len(h)) for n, h in zip(least, whole.heads, strict=True)]
        fits = _width(places, heads) <= width
        name = f"{whole.name}, continued".removeprefix(", ")
        shown = replace(whole, name=name) if part else whole
        yield _rich(shown, body, places, heads if fits else least, width)


def _room(head: str, cells: Sequence[int]) -> int:
    """Columns for the words of a head and for all cells that stay on one line."""
    return max([0, *map(len, head.split()), *(n for n in cells if n <= WHOLE)])


def _width(places: Sequence[int], widths: Sequence[int]) -> int:
    """Width of a table of some columns."""
    return sum(widths[place] + BETWEEN for place in places)


def _rich(
    whole: CellTable,
    body: Sequence[Sequence[Text]],
    places: Sequence[int],
    widths: Sequence[int],
    room: int,
) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title=Text(whole.name, style="bold"),
        title_justify="left",
    )
    for place in places:
        head = Text(whole.heads[place])
        if place == 0:
            table.add_column(head, width=widths[0], overflow="fold")
        elif widths[place] <= WHOLE and _width(places, widths) <= room:
            # Of a given width: else rich takes from columns that need theirs.
            longest = max((len(row[place]) for row in body), default=0)
            given = widths[place] if longest <= widths[place] else None
            table.add_column(head, justify="right", width=given)
        else:
            table.add_column(head, justify="right", overflow="fold")
    for row in body:
        table.add_row(*(row[place] for place in places))
    return table


def _texts(row: Sequence[TableCell]) -> Iterator[Text]:
    for place, cell in enumerate(row):
        # Ends of an interval belong to the number; most remarks are for the page.
        ends = f" {cell.small}" if cell.small.startswith("[") else ""
        ends = f" ({cell.small})" if place == 0 and cell.small else ends
        yield Text(f"{cell.text}{ends}", style="bold" if cell.strong else "")
