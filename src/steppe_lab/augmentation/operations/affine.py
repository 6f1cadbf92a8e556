"""Affine maps with the nearest pixel: shears, translations, rotations.

Source: `Image.transform` with AFFINE and NEAREST, and `Image.rotate`, of Pillow: the
centre of each pixel is mapped in fixed point with 16 binary digits.

A matrix (a, b, c, d, e, f) takes the pixel at (a x + b y + c, d x + e y + f) to (x, y).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steppe_lab.augmentation.shifting import taken
from steppe_lab.transfer import sent

BITS = 16  # after the point


def shear_x(slope: Tensor, height: int, width: int) -> Tensor:
    """Matrices (n, 6) that move each row by the slope times its place."""
    del height, width
    return _filled(slope, b=slope)


def shear_y(slope: Tensor, height: int, width: int) -> Tensor:
    """Matrices (n, 6) that move each column by the slope times its place."""
    del height, width
    return _filled(slope, d=slope)


def translate_x(share: Tensor, height: int, width: int) -> Tensor:
    """Matrices (n, 6) that move by a share of the width, to the left if positive."""
    del height
    return _filled(share, c=share * width)


def translate_y(share: Tensor, height: int, width: int) -> Tensor:
    """Matrices (n, 6) that move by a share of the height, upwards if positive."""
    del width
    return _filled(share, f=share * height)


def rotate(degrees: Tensor, height: int, width: int) -> Tensor:
    """Matrices (n, 6) of counter-clockwise rotations about the centre."""
    angle = -torch.deg2rad(degrees)
    cos, sin = (each.round(decimals=15) for each in (angle.cos(), angle.sin()))
    x, y = width / 2, height / 2
    c = -cos * x - sin * y + x
    f = sin * x - cos * y + y
    return _filled(degrees, a=cos, b=sin, c=c, d=-sin, e=cos, f=f)


MATRICES: Mapping[str, Callable[[Tensor, int, int], Tensor]] = {
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
}


def matrices(place: Tensor, size: Tensor, height: int, width: int) -> Tensor:
    """Matrices of maps of several kinds, float64 of shape (n, 6).

    Args:
        place: of each map's name in `MATRICES`, (n,).
        size: slope, share or angle, float64 of shape (n,).
        height: of the images.
        width: of the images.
    """
    each = torch.stack([make(size, height, width) for make in MATRICES.values()])
    return each[place, torch.arange(len(place))]


def transformed(images: Tensor, matrices: Tensor, fill: int) -> Tensor:
    """Images under an affine map each.

    Args:
        images: shape (n, C, H, W).
        matrices: float64 of shape (n, 6), on the host.
        fill: value of pixels from outside.
    """
    rows, columns = images.shape[2:]
    a, b, c, d, e, f = matrices.unbind(1)
    centres = (a, b, c + a / 2 + b / 2, d, e, f + d / 2 + e / 2)
    fixed = (torch.stack(centres) * 2**BITS + 0.5).floor().to(torch.int64)
    a, b, c, d, e, f = sent(fixed, images.device)[:, :, None, None]
    y = torch.arange(rows, device=images.device)[:, None]
    x = torch.arange(columns, device=images.device)
    source_x = (a * x + b * y + c) >> BITS  # (n, H, W)
    source_y = (d * x + e * y + f) >> BITS
    within = (source_x >= 0) & (source_x < columns)
    within &= (source_y >= 0) & (source_y < rows)
    place = (source_y * columns + source_x).where(within, 0)
    return taken(images, place).masked_fill_(~within[:, None], fill)


def _filled(like: Tensor, **entries: Tensor) -> Tensor:
    """The identity but for some entries."""
    identity = dict(zip("abcdef", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), strict=True))
    filled = {name: torch.full_like(like, value) for name, value in identity.items()}
    return torch.stack(list({**filled, **entries}.values()), dim=1)
