"""Quantities along a line, from its lower to its upper end.

Shape letters: X points along the line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steppe.errors import SettingError, brief
from steppe.plots.planes.values import LOSS, Array, tensors_of, words_of
from steppe.surfaces import Surface
from steppe.surfaces.slices import sliced_to


@dataclass(frozen=True)
class Along:
    """A quantity on a line."""

    x: Array  # (X,) ascending
    values: Array  # (X,); NaN where they are not finite, which leaves a gap
    stderr: Array  # (X,); 0 where there is none
    words: str  # name of the quantity


def along(surface: Surface, quantity: str = LOSS, *, figure: str) -> Along:
    """A quantity of a surface of one axis.

    Args:
        surface: of one axis.
        quantity: as in `plots.contour`.
        figure: name of the function that needs it, for messages.

    Raises:
        SettingError: no surface of one axis, or no such quantity.
    """
    if not isinstance(surface, Surface):
        raise SettingError(f"{figure} draws Surfaces, got {brief(surface)}.")
    count = len(surface.coordinates)
    if count != 1:
        raise SettingError(
            f"{figure} needs surfaces of one axis, got one of {count}; plots.contour "
            f"draws a plane, and surface.{sliced_to(surface, 1)} is a line of it."
        )
    values, stderr = tensors_of(surface, quantity)
    order = np.argsort(surface.x, kind="stable")
    numbers = values.detach().cpu().double().numpy()[order]
    errors = (
        np.zeros(len(order))
        if stderr is None
        else stderr.detach().cpu().double().numpy()[order]
    )
    return Along(
        x=np.asarray(surface.x, dtype=np.float64)[order],
        values=np.where(np.isfinite(numbers), numbers, np.nan),
        stderr=np.where(np.isfinite(errors), errors, np.nan),
        words=words_of(surface, quantity),
    )
