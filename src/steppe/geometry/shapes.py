"""Parameters as matrices, and how the size of a matrix should follow its width.

Source of the scale: Yang, Simon, Bernstein, 2023, arXiv:2310.17813, Condition 1: a
change of a layer is felt alike at every width where its spectral norm goes as
sqrt(fan out / fan in).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor

from steppe.errors import check_choice

Scale = Literal["alike", "fan"]


def fans(param: Tensor) -> tuple[int, int]:
    """Rows and columns of a parameter as a matrix: fan out and fan in.

    Kernels (out, in, height, width) have in * height * width columns, vectors one.
    """
    rows = len(param) if param.dim() else 1
    return rows, param.numel() // max(rows, 1)


def radii(params: list[Tensor], rho: list[float], scale: Scale) -> list[float]:
    """Radius of every tensor: rho, or rho sqrt(fan out / fan in).

    Args:
        params: P parameters.
        rho: P radii.
        scale: "alike" or "fan".
    """
    if scale == "alike":
        return rho
    ratios = [out / max(into, 1) for out, into in map(fans, params)]
    return [r * math.sqrt(ratio) for r, ratio in zip(rho, ratios, strict=True)]


def check_scale(scale: str) -> None:
    """Refuse a scale that does not exist."""
    check_choice("scale", scale, get_args(Scale))
