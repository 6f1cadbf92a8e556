"""Pictures of landscapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from steppe import plots
from steppe.surfaces import Surface
from steppe_lab.runs.landscape_settings import PictureSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLANES: Mapping[str, Callable[..., Figure]] = {
    "contour": plots.contour,
    "contourf": plots.contourf,
    "heat": plots.heat,
    "surface": plots.surface3d,
}


def drawn(
    surfaces: Mapping[str, Surface],
    kind: str,
    settings: PictureSettings,
    xlabel: str | None = None,
) -> bytes:
    """A picture of surfaces on one scale, as PNG.

    Args:
        surfaces: by name; a single one needs none in the picture.
        kind: line, or one of `PLANES`.
        settings: of the picture.
        xlabel: of the first axis of a line; None for its unit.

    Raises:
        SettingError: a quantity that the surfaces lack, or surfaces of unlike axes.
    """
    if kind == "line":
        figure = _line(surfaces, xlabel)
    else:
        options: dict[str, Any] = {
            "quantity": settings.quantity,
            "log": settings.log or None,
            "vmin": settings.vmin,
            "vmax": settings.vmax,
        }
        if kind in ("contour", "contourf"):
            options["vlevel"] = settings.vlevel
        single = len(surfaces) == 1
        figure = PLANES[kind](
            next(iter(surfaces.values())) if single else surfaces, **options
        )
    return plots.save_png(figure)


def _line(surfaces: Mapping[str, Surface], xlabel: str | None) -> Figure:
    first = next(iter(surfaces.values()))
    along = xlabel or "distance, in " + (first.axes[0] if first.axes else "steps")
    return plots.lines(
        {name: [surface] for name, surface in surfaces.items()},
        xlabel=along.replace("$", r"\$"),  # which would begin a formula
        ylabel="loss ± standard error",
        band=True,
    )
