"""Surfaces as one HTML page: figures that turn, numbers under the pointer.

The page holds plotly.js, so that it needs no network; compressed, that is 2 MB. Its
policy lets three scripts run, known by their hashes: that of all pages, that of this
one, and plotly.js. The policy of all pages allows styles within elements, which
plotly.js writes; 'unsafe-eval' is not needed, and blob: for images is, for the button
that saves a figure. Without scripts the page shows the same surfaces as pictures.
"""

from __future__ import annotations

import base64
import gzip
import importlib.resources
import platform
from collections.abc import Mapping
from datetime import date
from functools import partial
from os import PathLike
from pathlib import Path

import torch

from steppe import plots
from steppe.errors import SettingError, brief, install
from steppe.files import replace_file
from steppe.pages.picture import Picture, pictured
from steppe.pages.surfaces.numbers import numbers_of
from steppe.pages.templating import hash_of, source_of, template
from steppe.pages.versions import own_version
from steppe.plots.planes.values import Surfaces, by_name, shown
from steppe.surfaces import Surface

_HOME = "steppe.pages.surfaces"
_PLOTLY = "package_data/plotly.min.js"
_CALL = "steppe.surface_html(surface, {path!r})"


def surface_html(
    surfaces: Surfaces,
    path: str | PathLike[str],
    *,
    title: str = "",
    command: str = "",
    written: date | None = None,
) -> Path:
    """Write surfaces as one page that needs nothing else, not even a network.

    It has the shaded surface and its contours, with trajectories; the value ± its
    standard error under the pointer; a switch for a logarithmic axis; and lists of
    quantities and networks, which share one scale. The same surfaces stand below as
    pictures, which need no script. It follows the theme of the reader's system.

    Args:
        surfaces: of two axes; one, or several by name.
        path: of the page, replaced if it exists.
        title: of the page; empty for "Loss landscape" and the names.
        command: that makes the page again; empty for the call.
        written: its date; None for today.

    Returns:
        The path of the page.

    Raises:
        SettingError: a surface of other than two axes or with an axis of one point; no
            plotly or jinja2.
        UsageError: matplotlib is not installed.
        OSError: the page cannot be written.
    """
    named = by_name(surfaces)
    page = render(
        named,
        title=title,
        command=command or _CALL.format(path=str(path)),
        written=written,
    )
    target = Path(path)
    replace_file(target, page.encode())
    return target


def render(
    surfaces: Mapping[str, Surface],
    *,
    title: str,
    command: str,
    written: date | None = None,
    lines: Mapping[str, Surface] | None = None,
) -> str:
    """The page.

    Args:
        surfaces: by name; one alone may have an empty name.
        title: of the page; empty for "Loss landscape" and the names.
        command: that makes it again.
        written: its date; None for today.
        lines: surfaces of one axis by name, such as those along paths on the planes,
            for a picture of their own.

    Raises:
        SettingError: a surface that is no plane, or no plotly.
    """
    page = template("surface.html.j2", _HOME)
    from markupsafe import Markup  # which comes with jinja2

    for surface in surfaces.values():
        shown(surface, figure="surface_html")
    plotly, script = _plotly(), source_of("surface.js", _HOME)
    numbers = numbers_of(surfaces)
    names = " and ".join(filter(None, surfaces))
    every = {**(lines or {}), **surfaces}
    return page.render(
        verb="landscape",
        title=title or (f"Loss landscape of {names}" if names else "Loss landscape"),
        facts=[],
        question="In short",
        answer=[plots.alt({name: each}) for name, each in every.items()],
        contents=[
            ("answer", "Answer"),
            ("turn", "Turn it"),
            ("figures", "Figures"),
            ("again", "Make it again"),
        ],
        files=[],
        pictures=[*_along(lines or {}), *_pictures(surfaces)],
        numbers=Markup(numbers),
        networks=list(surfaces),
        plotly=_packed(plotly),
        surface_script=Markup(script),
        hashes=[hash_of(plotly), hash_of(script)],
        command=command,
        versions={
            "steppe": own_version(),
            "torch": torch.__version__,
            "Python": platform.python_version(),
        },
        origins=["Turning figures are drawn by plotly.js (MIT licence)."],
        written=(written or date.today()).isoformat(),
    )


def check_plotly() -> None:
    """Refuse to begin work whose result could not be put on a page.

    Raises:
        SettingError: plotly or jinja2 is not installed.
    """
    template("surface.html.j2", _HOME)
    _plotly()


def _pictures(surfaces: Mapping[str, Surface]) -> list[Picture]:
    named: Surfaces = dict(surfaces)
    words = plots.alt(named)
    return [
        pictured(
            partial(plots.contourf, named),
            title="Contours",
            caption="Lines of equal loss, on one scale. ▼ is the lowest one, + the "
            "base point.",
            alt=words,
        ),
        pictured(
            partial(plots.surface3d, named),
            title="Surface",
            caption="The height is the loss; light falls from the left.",
            alt=words,
        ),
    ]


def _along(lines: Mapping[str, Surface]) -> list[Picture]:
    if not lines:
        return []
    named: Surfaces = dict(lines)
    picture = pictured(
        partial(plots.profile, named),
        title="Along the paths",
        caption="The loss along each path, over a band of its standard error.",
        alt=plots.alt(named),
    )
    return [picture]


def _plotly() -> str:
    """The script of plotly, from its package.

    Raises:
        SettingError: plotly is not installed, or its package has no script.
    """
    try:
        script = importlib.resources.files("plotly").joinpath(_PLOTLY)
    except ModuleNotFoundError:
        raise SettingError(
            "a page of surfaces needs plotly, which is not installed; "
            f"{install('landscapes')}."
        ) from None
    try:
        return script.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(
            f"the installed plotly has no {_PLOTLY} ({brief(str(error))}); "
            "install plotly 6 or later."
        ) from None


def _packed(script: str) -> str:
    """A script compressed, as letters; the same each time."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
