"""A picture of a page: for light and dark themes, and in words."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steppe import plots
from steppe.plots import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One picture in two themes, as addresses that hold the image itself."""

    title: str
    caption: str
    alt: str  # what it shows, with its numbers
    light: str
    dark: str
    width: int  # CSS pixels
    height: int


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
    themes: tuple[Theme, Theme] = ("light", "dark")
    light, dark = (draw(theme=theme) for theme in themes)
    width, height = (round(96 * inches) for inches in light.get_size_inches())
    return Picture(
        title=title,
        caption=caption.strip(),
        alt=alt,
        light=_uri(light),
        dark=_uri(dark),
        width=width,
        height=height,
    )


def _uri(figure: Figure) -> str:
    svg = base64.b64encode(plots.save_svg(figure).encode())
    return f"data:image/svg+xml;base64,{svg.decode()}"
