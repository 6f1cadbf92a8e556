"""Maps of colours that rise in lightness, so that their order needs no hue.

Filled maps are viridis (S. van der Walt and N. Smith, 2015), which is made for eyes
that do not tell red from green. Lines have the part of such a map that stands out from
the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from steppe.plots.canvas import Theme, gradient

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


def filling(_: Theme) -> Colormap:
    """The map of areas, the same in both themes."""
    import matplotlib

    return matplotlib.colormaps["viridis"]


def lines_of(theme: Theme) -> Colormap:
    """The map of lines on the page of a theme."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(gradient(theme))
