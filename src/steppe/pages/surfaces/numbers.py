"""Numbers of an interactive page: surfaces by quantity, scales, trajectories.

Shape letters: X points along the first axis, Y along the second, T checkpoints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.plots.planes.overlays import heights_of
from steppe.plots.planes.scale import scale_of
from steppe.plots.planes.values import (
    LOSS,
    STDERR,
    Shown,
    axis_names,
    quantities_of,
    shown,
)
from steppe.plots.planes.words import recipe
from steppe.surfaces import Surface, Trajectory

DIGITS = 6  # of a number on the page


def numbers_of(surfaces: Mapping[str, Surface]) -> str:
    """All that the script of the page draws, as JSON that may stand within HTML.

    Args:
        surfaces: by name, of two axes.

    Raises:
        SettingError: a surface of other than two axes or with an axis of one point.
    """
    first, *others = (quantities_of(surface) for surface in surfaces.values())
    # Errors stand beside their values, so that they need no maps; that of the loss has
    # one, since it says where the picture is to be trusted.
    common = [
        name
        for name in first
        if all(name in each for each in others)
        and (name == STDERR or not name.endswith("stderr"))
    ]
    values = {
        (name, quantity): shown(surface, quantity, figure="surface_html")
        for name, surface in surfaces.items()
        for quantity in common
    }
    record = {
        "quantities": [
            _quantity(q, [values[name, q] for name in surfaces]) for q in common
        ],
        "surfaces": [
            _surface(name, surface, {q: values[name, q] for q in common})
            for name, surface in surfaces.items()
        ],
    }
    text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _quantity(name: str, every: list[Shown]) -> dict[str, Any]:
    """The scale that all surfaces share."""
    values = [each.values for each in every]
    scale = scale_of(values, may_be_log=every[0].in_loss)
    # The least value above 0 is the lower end of a logarithmic axis.
    decades = scale_of(values, log=True)
    return {
        "name": name,
        "words": every[0].words,
        "low": scale.low,
        "high": scale.high,
        "log": scale.log,
        "logLow": decades.low if decades.log else None,
        "logHigh": decades.high if decades.log else None,
        "ofLoss": name == LOSS,
    }


def _surface(name: str, surface: Surface, values: dict[str, Shown]) -> dict[str, Any]:
    grid = values[LOSS]
    place = grid.lowest()
    return {
        "name": name,
        "x": _row(grid.x),
        "y": _row(grid.y),
        "axes": axis_names(surface),
        # Quantities that take long are evaluated on a coarser grid.
        "grids": {
            q: [_row(each.x), _row(each.y)]
            for q, each in values.items()
            if each.values.shape != grid.values.shape
        },
        "values": {q: _rows(each.values) for q, each in values.items()},
        "errors": {
            q: _rows(each.stderr)
            for q, each in values.items()
            if each.stderr is not None and np.any(each.stderr)
        },
        "computed": None if grid.computed.all() else grid.computed.astype(int).tolist(),
        "lowest": place and [float(grid.x[place[1]]), float(grid.y[place[0]])],
        "offBase": surface.off_base,
        "paths": [_path(path, grid) for path in surface.paths],
        "recipe": " · ".join(recipe(surface).values()),
    }


def _path(path: Trajectory, grid: Shown) -> dict[str, Any]:
    x, y = path.coordinates.double().numpy().T
    count = len(path.coordinates)
    return {
        "name": path.name or "trajectory",
        "x": _row(x),
        "y": _row(y),
        "below": _row(heights_of(path, grid)),
        "loss": None if path.loss is None else _row(path.loss.double().numpy()),
        "away": _row(path.relative_residual.double().numpy()),
        "labels": list(path.labels) or [f"checkpoint {i}" for i in range(count)],
    }


def _rows(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [_row(row) for row in values]


def _row(values: Iterable[float]) -> list[float | None]:
    """Numbers of a few digits; None for those that JSON has no name for."""
    return [
        float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
        for value in values
    ]
