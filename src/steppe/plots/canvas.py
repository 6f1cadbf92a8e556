"""Canvas of all figures: themes, colours that most eyes tell apart, axes, files.

Colours are after Okabe and Ito, 2008, Color Universal Design, darkened or lightened
until each has a contrast of 3 to 1 with the page; line styles and markers differ too,
so that no picture rests on colour alone.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from steppe.errors import UsageError, install
from steppe.plots.names import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]

WIDTH, HEIGHT = 4.6, 3.1  # inches; half a page, or the whole width of a phone
FONT = 11.0  # points
LETTERS = 12  # of the name of an axis, which stay on one line
_PAST = 1.15  # length of a name beside axes, at most, of their height
LOG_RANGE = 30.0  # a range of positive values beyond which the axis is logarithmic

_PAGE = {"light": "#ffffff", "dark": "#12161b"}
_INK = {"light": "#24292f", "dark": "#e6e9ed"}
_GRID = {"light": "#d5d9de", "dark": "#3d444d"}
_COLOURS = {
    "light": (
        *("#0067a5", "#c04a00", "#007a58", "#a63d7c"),
        *("#3a3f45", "#7d6200", "#5b53c4", "#9c2b2b"),
    ),
    "dark": (
        *("#5cb8f0", "#ff9a4d", "#35cfa2", "#ee9fcb"),
        *("#f2f4f6", "#efd94a", "#aea8ff", "#ff8a80"),
    ),
}
_ENDS = {  # between which the colours of levels lie; lightness tells their order
    "light": ("#3b0f5c", "#33508f", "#1a7d7b", "#569a3a"),
    "dark": ("#6f86e8", "#2fb0c4", "#6bd27a", "#f7e84a"),
}


def _gradient(anchors: Sequence[str], count: int = 64) -> tuple[str, ...]:
    """Colours on the way through others, evenly spaced."""
    channels = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in anchors]
    colours = []
    for place in range(count):
        whole, share = divmod(place * (len(anchors) - 1) / (count - 1), 1)
        pairs = zip(
            channels[int(whole)], channels[min(int(whole) + 1, len(anchors) - 1)]
        )
        mixed = (round(a + share * (b - a)) for a, b in pairs)
        colours.append("#" + "".join(f"{channel:02x}" for channel in mixed))
    return tuple(colours)


_GRADIENTS = {theme: _gradient(ends) for theme, ends in _ENDS.items()}
_DARK = {
    **dict(zip(_GRADIENTS["light"], _GRADIENTS["dark"], strict=True)),
    **dict(zip(_COLOURS["light"], _COLOURS["dark"], strict=True)),
    **{theme["light"]: theme["dark"] for theme in (_PAGE, _INK, _GRID)},
}
_DASHES: tuple[Any, ...] = (
    *("-", "--", "-.", ":"),
    *((0, (6, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (3, 2)), (0, (1, 3))),
)
_MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class Look:
    """How one entry of a picture is drawn."""

    colour: str
    dash: Any
    marker: str


def looks(names: Iterable[str], theme: Theme) -> dict[str, Look]:
    """A look for every name, by its place; they repeat after eight."""
    colours = _COLOURS[theme]
    return {
        name: Look(colours[i % 8], _DASHES[i % 8], _MARKERS[i % 8])
        for i, name in enumerate(names)
    }


def canvas(
    theme: Theme, *, width: float = WIDTH, height: float = HEIGHT
) -> tuple[Figure, Axes]:
    """An empty transparent figure with one pair of axes.

    Args:
        theme: "light" for dark ink, "dark" for light ink.
        width: in inches.
        height: in inches.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure = sheet(width, height)
    axes = figure.add_subplot(facecolor="none")
    style(axes, theme)
    return figure, axes


def sheet(width: float, height: float) -> Figure:
    """An empty transparent figure.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            f"plots need matplotlib, which is not installed; {install('viz')}."
        ) from None
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def style(axes: Axes, theme: Theme) -> None:
    """Give axes the ink, the letters and the grid of a theme."""
    ink, grid = _INK[theme], _GRID[theme]
    axes.tick_params(which="both", labelsize=FONT, colors=ink, length=0)
    axes.xaxis.label.set(color=ink, fontsize=FONT)
    axes.yaxis.label.set(color=ink, fontsize=FONT)
    axes.grid(color=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set(edgecolor=grid, visible=name in ("left", "bottom"))


def ink_of(theme: Theme) -> str:
    """Colour of letters."""
    return _INK[theme]


def page_of(theme: Theme) -> str:
    """Colour of the page behind a figure."""
    return _PAGE[theme]


def grid_of(theme: Theme) -> str:
    """Colour of lines that stay behind."""
    return _GRID[theme]


def gradient(theme: Theme) -> tuple[str, ...]:
    """Colours of lines from low to high values, which stand out from the page."""
    return _GRADIENTS[theme]


def legend(
    figure: Figure, theme: Theme, entries: Mapping[str, Any], *, least: int = 2
) -> None:
    """Names above the axes, in as many columns as their lengths leave room for.

    Args:
        figure: to change.
        theme: that it is drawn in.
        entries: what is drawn, by name.
        least: number of entries from which on there are names.
    """
    if len(entries) < least:
        return
    letters = int(40 * figure.get_figwidth() / WIDTH)
    names = cut(entries, letters - 6)
    longest = max(map(len, names))
    columns = max(1, min(len(entries), letters // (longest + 6)))
    rows = math.ceil(len(entries) / columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * (rows - 1))
    figure.legend(
        list(entries.values()),
        names,
        loc="outside upper center",
        ncols=columns,
        fontsize=FONT,
        frameon=False,
        labelcolor=_INK[theme],
        handlelength=2.6,
        columnspacing=1.4,
    )


def wants_log(values: Sequence[float]) -> bool:
    """Whether values are positive and span more than a factor of 30."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > LOG_RANGE * min(finite)


def log_axis(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain numbers at a few places.

    Args:
        axes: to change.
        which: of its axes.
        values: what is drawn, positive; their range decides where numbers stand.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    if which == "x":
        axes.set_xscale("log")
    else:
        axes.set_yscale("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    steps = (1.0,) if max(values) > 300 * min(values) else (1.0, 3.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=7))
    axis.set_minor_locator(NullLocator())
    _plain_numbers(axis)


def without_collisions(figure: Figure) -> Figure:
    """The figure with so few ticks that no two of their labels touch.

    All letters stand as they are; none are read as a formula.
    Long names of axes go on in a second line. Names along an axis are not ticks to
    thin: their figure must be high enough.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator, LogFormatter, NullFormatter

    # The usual numbers of a logarithmic axis are formulas.
    for axis in (axis for a in figure.axes for axis in (a.xaxis, a.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatter):
            _plain_numbers(axis)
        if isinstance(axis.get_minor_formatter(), LogFormatter):
            axis.set_minor_formatter(NullFormatter())
    # A name with two dollar signs is no formula.
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        # The layout leaves no room for axes beside a name far longer than the page.
        _break_name(axes.xaxis, width)
        _break_name(axes.yaxis, height)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _wrap_name(figure, axis)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # A formatter of fixed names belongs to its places.
            if isinstance(axis.get_major_locator(), FixedLocator):
                continue
            while _collide(axis) and len(places := _places(axis)) > 2:
                axis.set_major_locator(FixedLocator(places[::2]))
                figure.draw_without_rendering()
    return figure


def _plain_numbers(axis: Axis) -> None:
    """Label ticks with numbers as people write them."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _break_name(axis: Axis, inches: float) -> None:
    """Break the name of an axis into lines of about this length."""
    letters = int(inches * 72 / (FONT / 2))
    axis.label.set_text(textwrap.fill(axis.label.get_text(), letters))


def _wrap_name(figure: Figure, axis: Axis) -> None:
    """Break the name of an axis into as few lines as let it stand in the figure."""
    name, page = axis.label.get_text(), figure.bbox
    longest = max(map(len, name.split("\n")))
    for letters in range(longest - 1, LETTERS, -6):
        box = axis.label.get_window_extent()
        # Letters of a file are a little wider than those of the layout.
        room = FONT / 2 if axis is axis.axes.xaxis else 0.0
        across = page.x0 + room <= box.x0 and box.x1 + room <= page.x1
        # Beside low axes a name of several lines is better than one past their ends.
        beside = axis is axis.axes.xaxis or box.height <= _PAST * axis.axes.bbox.height
        if across and beside and box.y0 >= page.y0 and box.y1 <= page.y1:
            return
        axis.label.set_text(textwrap.fill(name, letters))
        figure.draw_without_rendering()


def _places(axis: Axis) -> list[float]:
    """Places of the ticks that are in sight."""
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    places = axis.get_majorticklocs()
    return [float(x) for x in places if low - room <= x <= high + room]


def _collide(axis: Axis) -> bool:
    """Whether two labels of neighbouring ticks are nearer than a letter is wide."""
    labels = [label for label in axis.get_ticklabels() if label.get_text()]
    low, high = sorted(axis.get_view_interval())
    boxes = [
        label.get_window_extent()
        for label, place in zip(labels, axis.get_majorticklocs(), strict=False)
        if low <= place <= high
    ]
    along = "x" if axis is axis.axes.xaxis else "y"
    ends = sorted((getattr(b, f"{along}0"), getattr(b, f"{along}1")) for b in boxes)
    gap = FONT / 2 if along == "x" else 0.0
    return any(left[1] + gap > right[0] for left, right in pairwise(ends))


def save_png(figure: Figure, theme: Theme = "light", *, dpi: int = 200) -> bytes:
    """The figure as PNG on a plain page, the same bytes for the same figure.

    Args:
        figure: to save.
        theme: that it was drawn in.
        dpi: pixels per inch.
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        dpi=dpi,
        facecolor=_PAGE[theme],
        metadata={"Software": None},
    )
    return buffer.getvalue()


def save_svg(figure: Figure) -> str:
    """The figure as SVG text, the same for the same figure; letters are shapes."""
    import matplotlib

    buffer = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "steppe", "svg.fonttype": "path"}):
        # Pixels within, such as those of a shaded surface, are as fine as in a PNG.
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=nothing, dpi=200
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def darkened(svg: str) -> str:
    """An SVG of a light figure in the colours of the dark theme.

    It is drawn once for both: drawing takes much longer than changing its colours.
    """
    return re.sub("#[0-9a-f]{6}", lambda match: _DARK.get(match[0], match[0]), svg)
