"""Surfaces along training, or a trajectory on one surface, as a moving picture.

Shape letters: T checkpoints.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from steppe.errors import (
    SettingError,
    check_choice,
    check_count,
    check_positive,
)
from steppe.files import replace_file
from steppe.plots.canvas import Theme, page_of, save_png
from steppe.plots.contour_plot import contour, contourf
from steppe.plots.heat_plot import heat
from steppe.plots.planes.panels import Request
from steppe.plots.planes.values import LOSS, by_name
from steppe.plots.surface_plot import surface3d
from steppe.surfaces import Surface, Trajectory

Kind = Literal["contourf", "contour", "heat", "surface3d"]
_KINDS: dict[str, Any] = {
    "contourf": contourf,
    "contour": contour,
    "heat": heat,
    "surface3d": surface3d,
}
_LAST = 6  # frames' time that the last one stays
_COLOURS = 256  # that a GIF has


def animate(
    surfaces: Surface | Mapping[str, Surface],
    path: str | PathLike[str],
    *,
    kind: Kind = "contourf",
    quantity: str = LOSS,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    seconds: float = 0.25,
    frames: int = 60,
    dpi: int = 100,
    theme: Theme = "light",
) -> Path:
    """Write a GIF with a frame for each surface, or for each checkpoint of one.

    All frames have the same scale. A single surface must have a trajectory: frame t
    shows its first t checkpoints, and several trajectories go on together.

    Args:
        surfaces: by label of the frame, such as "epoch 3"; or one with trajectories.
        path: of the GIF, replaced if it exists.
        kind: name of the figure of each frame.
        quantity: as in `contour`.
        log: as in `contour`, over the values of all frames.
        vmin: as in `contour`, over the values of all frames.
        vmax: as in `contour`, over the values of all frames.
        seconds: that a frame stays, > 0; the last stays six times as long.
        frames: number of frames at most; of more, evenly spread ones are drawn, the
            first and the last among them.
        dpi: pixels per inch, >= 1.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Returns:
        The path of the GIF.

    Raises:
        SettingError: a surface that is no plane, one alone without a trajectory, an
            unknown kind or quantity, or a number out of range.
        UsageError: matplotlib is not installed.
        OSError: the GIF cannot be written.
    """
    check_choice("kind", kind, tuple(_KINDS))
    check_positive("seconds", seconds)
    check_count("frames", frames, 2)
    check_count("dpi", dpi, 1)
    if isinstance(surfaces, Surface):
        labelled = _growing(surfaces, frames)
    else:
        labelled = _spread(list(by_name(surfaces).items()), frames)
    request = Request("animate", quantity, log, vmin, vmax, None, theme)
    # Of several frames, so names of frames may repeat.
    every = [request.shown(surface)[""][1] for _, surface in labelled]
    scale = request.scale(every)
    shared = {"log": scale.log, "vmin": scale.low, "vmax": scale.high}
    images = [
        save_png(
            _KINDS[kind]({label: each}, quantity=quantity, theme=theme, **shared),
            theme,
            dpi=dpi,
        )
        for label, each in labelled
    ]
    target = Path(path)
    replace_file(target, _gif(images, seconds, page_of(theme)))
    return target


def _growing(surface: Surface, most: int) -> list[tuple[str, Surface]]:
    """The surface with ever longer trajectories, by the label of the last checkpoint.

    A trajectory that has ended stays.
    """
    if not surface.paths:
        raise SettingError(
            "animate() needs surfaces by label, such as {'epoch 1': a, 'epoch 2': b}, "
            "or one with a trajectory; add one by surface.with_path(trajectory)."
        )
    longest = max(surface.paths, key=lambda each: len(each.residual))
    steps = _spread(list(range(len(longest.residual))), most)
    return [
        (
            longest.labels[t] if longest.labels else f"checkpoint {t}",
            dataclasses.replace(
                surface, paths=tuple(_first(each, t + 1) for each in surface.paths)
            ),
        )
        for t in steps
    ]


def _first(path: Trajectory, count: int) -> Trajectory:
    """The first checkpoints of a trajectory."""
    columns: dict[str, Any] = {
        name: column[:count] for name, column in path.columns().items()
    }
    return dataclasses.replace(
        path,
        coordinates=path.coordinates[:count],
        labels=path.labels[:count],
        **columns,
    )


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of some items, evenly spread, both ends included."""
    count = len(items)
    if count <= most:
        return list(items)
    return [items[round(i * (count - 1) / (most - 1))] for i in range(most)]


def _gif(pictures: Sequence[bytes], seconds: float, page: str) -> bytes:
    """PNG pictures as one GIF whose frames share a size and a set of colours."""
    from PIL import Image  # which matplotlib needs itself

    opened = [Image.open(io.BytesIO(each)).convert("RGB") for each in pictures]
    width = max(image.width for image in opened)
    height = max(image.height for image in opened)
    sheets = [Image.new("RGB", (width, height), page) for _ in opened]
    for sheet, image in zip(sheets, opened):
        sheet.paste(image, (0, 0))
    # Colours of each frame alone would flicker: those of the first, the middle and the
    # last one serve all.
    some = [sheets[0], sheets[len(sheets) // 2], sheets[-1]]
    joined = Image.new("RGB", (width, height * len(some)))
    for place, sheet in enumerate(some):
        joined.paste(sheet, (0, place * height))
    palette = joined.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    first, *others = (
        sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets
    )
    times = [round(1000 * seconds)] * len(sheets)
    times[-1] *= _LAST
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=times,
        loop=0,
    )
    return buffer.getvalue()
