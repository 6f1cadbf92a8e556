"""Images moved by whole pixels and mirrored, each in its own way.

Shape letters: B images in a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steppe_lab.transfer import sent


@dataclass(frozen=True)
class Shifts:
    """Random moves of B images, on the host."""

    down: Tensor  # (B,) rows, int64; negative is up
    right: Tensor  # (B,) columns, before mirroring
    mirrored: Tensor  # (B,) bool

    @classmethod
    def drawn(
        cls, images: int, down: int, right: int, generator: torch.Generator
    ) -> Shifts:
        """Moves by at most so many pixels either way, half of the images mirrored."""
        rows = torch.randint(-down, down + 1, (images,), generator=generator)
        columns = torch.randint(-right, right + 1, (images,), generator=generator)
        mirrored = torch.randint(2, (images,), generator=generator) == 1
        return cls(rows, columns, mirrored)


def shifted(
    images: Tensor, shifts: Shifts, border: Literal["zero", "nearest"]
) -> Tensor:
    """Images that are moved, then mirrored from left to right.

    Args:
        images: shape (B, C, H, W), of any type.
        shifts: one for each image.
        border: value where there was no pixel: 0, or that of the nearest pixel.
    """
    rows, columns = images.shape[2:]
    y = torch.arange(rows) - shifts.down[:, None]  # (B, H), of the source
    x = torch.arange(columns).expand(len(images), columns)
    x = torch.where(shifts.mirrored[:, None], columns - 1 - x, x)
    x = x - shifts.right[:, None]
    place = y.clamp(0, rows - 1)[:, :, None] * columns
    place = place + x.clamp(0, columns - 1)[:, None, :]  # (B, H, W)
    moved = taken(images, sent(place, images.device))
    if border == "nearest":
        return moved
    outside = ((y < 0) | (y >= rows))[:, :, None] | ((x < 0) | (x >= columns))[:, None]
    return moved.masked_fill_(sent(outside[:, None], images.device), 0)


def taken(images: Tensor, place: Tensor) -> Tensor:
    """Pixels of each image at places that all its channels share.

    Args:
        images: shape (B, C, H, W).
        place: y W + x of each pixel's source, int64 of shape (B, H, W).
    """
    channels = images.shape[1]
    index = place.flatten(1)[:, None].expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view_as(images)
