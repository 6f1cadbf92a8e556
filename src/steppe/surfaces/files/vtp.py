"""Surfaces for ParaView: XML files of VTK with points and quadrangles as text.

Source: the converter in the published code of Li et al., 2018, arXiv:1712.09913.
Unlike there, planes may have different numbers of points along their axes, the type of
numbers is Float64, and a logarithm of values <= -0.1 is NaN.
"""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path

import numpy as np

from steppe.errors import SettingError
from steppe.files import replace_file
from steppe.surfaces.files.stored import Array, array_of
from steppe.surfaces.slices import sliced_to
from steppe.surfaces.surface import Surface

LOG_SHIFT = 0.1  # added before the logarithm in the published code, for losses of 0
PER_LINE = 6  # numbers

HEAD = """<?xml version="1.0"?>
<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
  <PolyData>
    <Piece NumberOfPoints="{points}" NumberOfVerts="0" NumberOfLines="0" \
NumberOfStrips="0" NumberOfPolys="{cells}">
"""
TAIL = """    </Piece>
  </PolyData>
</VTKFile>
"""


def save_vtp(
    surface: Surface,
    path: str | PathLike[str],
    quantity: str = "loss",
    zmax: float = math.inf,
    *,
    log: bool = False,
) -> None:
    """Write a plane as points of height z, with quadrangles between neighbours.

    Args:
        surface: of two axes.
        path: replaced when it exists.
        quantity: "loss" or the name of one beside it.
        zmax: greater values, inf too, are clipped to it.
        log: heights are ln(z + 0.1), after clipping.

    Raises:
        SettingError: a surface of another number of axes or with fewer than two points
            along one, or a quantity that it has not.
        OSError: no space, or no right to write.
    """
    if len(surface.coordinates) != 2 or min(surface.loss.shape) < 2:
        raise SettingError(
            "a VTP file must be of a plane with at least two points along each axis, "
            f"got a surface of shape {tuple(surface.loss.shape)}"
            + (
                f"; surface.{sliced_to(surface, 2)} is a plane of it."
                if len(surface.coordinates) > 2
                else "."
            )
        )
    heights = np.minimum(_values(surface, quantity), zmax)
    if log:
        with np.errstate(invalid="ignore", divide="ignore"):
            heights = np.log(heights + LOG_SHIFT)
    replace_file(Path(path), _content(surface, heights).encode())


def _values(surface: Surface, quantity: str) -> Array:
    if quantity == "loss":
        return array_of(surface.loss)
    if quantity not in surface.quantities:
        names = ", ".join(["loss", *surface.quantities])
        raise SettingError(
            f"the surface has no {quantity!r}; its quantities are {names}."
        )
    return array_of(surface.quantities[quantity].values)


def _content(surface: Surface, heights: Array) -> str:
    x, y = np.meshgrid(surface.x, surface.y)
    rows, columns = heights.shape
    corners = np.arange(rows * columns).reshape(rows, columns)
    around = (corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1])
    quads = np.stack([corner.ravel() for corner in around], axis=1)
    means = heights.ravel()[quads].mean(axis=1)
    points = np.stack([x.ravel(), y.ravel(), heights.ravel()], axis=1)
    return "".join(
        [
            HEAD.format(points=rows * columns, cells=len(quads)),
            _section("PointData", _numbers("zvalue", heights.ravel())),
            _section("CellData", _numbers("averaged zvalue", means)),
            _section("Points", _numbers("Points", points.ravel(), components=3)),
            _section(
                "Polys",
                _numbers("connectivity", quads.ravel()),
                _numbers("offsets", 4 * np.arange(1, len(quads) + 1)),
            ),
            TAIL,
        ]
    )


def _section(name: str, *arrays: str) -> str:
    return f"      <{name}>\n{''.join(arrays)}      </{name}>\n"


def _numbers(name: str, values: Array, components: int = 1) -> str:
    kind = "Int64" if values.dtype.kind == "i" else "Float64"
    texts = [repr(number) for number in values.tolist()]
    lines = (
        " ".join(texts[start : start + PER_LINE])
        for start in range(0, len(texts), PER_LINE)
    )
    body = "".join(f"          {line}\n" for line in lines)
    return (
        f'        <DataArray type="{kind}" Name="{name}" '
        f'NumberOfComponents="{components}" format="ascii">\n{body}'
        "        </DataArray>\n"
    )
