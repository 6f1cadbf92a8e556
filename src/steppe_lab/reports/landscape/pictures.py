"""Pictures of landscapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from steppe import plots
from steppe.errors import SettingError
from steppe.surfaces import Surface
from steppe_lab.runs.landscape_settings import PictureSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONNECTION = "connection"  # the picture of paths beside their plane

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
        kind: line, connection, or one of `PLANES`.
        settings: of the picture.

    Raises:
        SettingError: a quantity that the surfaces lack, or surfaces of unlike axes.
    """
    single = next(iter(surfaces.values())) if len(surfaces) == 1 else None
    shown = surfaces if single is None else single
    log = settings.log or None
    if kind == CONNECTION:
        return _connected(surfaces, settings)
    if kind == "line":
        figure = plots.profile(shown, quantity=settings.quantity, log=log)
        return plots.save_png(figure)
    options: dict[str, Any] = {
        "quantity": settings.quantity,
        "log": log,
        "vmin": settings.vmin,
        "vmax": settings.vmax,
    }
    if kind in ("contour", "contourf"):
        options["vlevel"] = settings.vlevel
    return plots.save_png(PLANES[kind](shown, **options))


def _connected(surfaces: Mapping[str, Surface], settings: PictureSettings) -> bytes:
    """Paths between networks, beside their plane where there is one."""
    paths, planes = by_axes(surfaces)
    if not planes:
        return drawn(paths, "line", settings)
    (plane,) = planes.values()
    figure = plots.connection(
        paths,
        plane,
        log=settings.log or None,
        vmin=settings.vmin,
        vmax=settings.vmax,
        vlevel=settings.vlevel,
    )
    return plots.save_png(figure)


def by_axes(
    surfaces: Mapping[str, Surface],
) -> tuple[dict[str, Surface], dict[str, Surface]]:
    """Surfaces of one axis, and those of two.

    Where one plane has a trajectory for each line, the lines have its names.
    """
    lines = {name: s for name, s in surfaces.items() if len(s.coordinates) == 1}
    planes = {name: s for name, s in surfaces.items() if name not in lines}
    names = [path.name for each in planes.values() for path in each.paths]
    if len(planes) == 1 and len(names) == len(lines):
        lines = dict(zip(names, lines.values(), strict=True))
    return lines, planes


def animated(surfaces: Mapping[str, Surface], settings: PictureSettings) -> bytes:
    """A moving picture on one scale, as GIF: a frame for each surface.

    A single surface has a frame for each checkpoint of its paths.

    Args:
        surfaces: by name, of two axes.
        settings: of the frames, which are the first of its pictures.

    Raises:
        SettingError: a quantity that the surfaces lack, or a single surface without a
            path.
    """
    single = next(iter(surfaces.values())) if len(surfaces) == 1 else None
    kind = settings.pictures[0]
    if single is not None and not single.paths:
        raise SettingError(
            "a moving picture needs several surfaces, or one with a path; name more "
            "files, or give --paths."
        )
    with TemporaryDirectory() as folder:
        path = plots.animate(
            surfaces if single is None else single,
            Path(folder) / "frames.gif",
            kind="surface3d" if kind == "surface" else kind,
            quantity=settings.quantity,
            log=settings.log or None,
            vmin=settings.vmin,
            vmax=settings.vmax,
        )
        return path.read_bytes()
