"""A picture of a page: for light and dark themes, and in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steppe import plots
from steppe.pages.attachment import data_uri
from steppe.plots.canvas import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "image/svg+xml"


@dataclass(frozen=True)
class Picture:
    """One picture in two themes, as addresses that hold the image itself."""

    title: str
    file: str  # name that it is saved by
    caption: str
    alt: str  # what it shows, with its numbers
    light: str
    dark: str
    width: int  # CSS pixels
    height: int


def prepare_pictures() -> None:
    """Draw an empty figure: most of the time of the first one goes into imports."""
    figure, _ = canvas("light")
    plots.save_svg(figure)


def pictured(
    draw: Callable[..., Figure], *, title: str, caption: str, alt: str
) -> Picture:
    """A picture in both themes.

    Args:
        draw: makes the figure; takes a `theme`.
        title: of the picture.
        caption: what to know when looking at it.
        alt: what it shows, with its numbers.
    """
    figure = draw(theme="light")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    light = plots.save_svg(figure)
    return Picture(
        title=title,
        file=f"{re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}.svg",
        caption=caption.strip(),
        alt=alt,
        light=data_uri(light, SVG),
        dark=data_uri(plots.darkened(light), SVG),
        width=width,
        height=height,
    )
