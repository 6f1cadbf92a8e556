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
    surfaces: Mapping[str, Surface], kind: str, settings: PictureSettings
) -> bytes:
    """A picture of surfaces on one scale, as PNG.

    Args:
        surfaces: by name; a single one needs none in the picture.
        kind: line, or one of `PLANES`.
        settings: of the picture.

    Raises:
        SettingError: a quantity that the surfaces lack, or surfaces of unlike axes.
    """
    single = next(iter(surfaces.values())) if len(surfaces) == 1 else None
    shown = surfaces if single is None else single
    log = settings.log or None
    if kind == "line":
        second = None if settings.quantity == "loss" else settings.quantity
        return plots.save_png(plots.profile(shown, second=second, log=log))
    options: dict[str, Any] = {
        "quantity": settings.quantity,
        "log": log,
        "vmin": settings.vmin,
        "vmax": settings.vmax,
    }
    if kind in ("contour", "contourf"):
        options["vlevel"] = settings.vlevel
    return plots.save_png(PLANES[kind](shown, **options))
