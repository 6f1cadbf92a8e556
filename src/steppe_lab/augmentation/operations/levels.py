"""Operations that give each grey level of a channel another one.

Source: `solarize`, `posterize`, `autocontrast` and `equalize` of Pillow's
ImageOps. `auto_contrast` rounds down the exact quotient, where Pillow multiplies by a
rounded factor: where the quotient is whole, Pillow's level may be one lower.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steppe_lab.transfer import sent

LEVELS = 256


def solarize(images: Tensor, thresholds: Tensor) -> Tensor:
    """Negatives of the levels from each image's threshold on."""
    least = sent(thresholds.ceil().to(torch.int16), images.device)
    return torch.where(images < least[:, None, None, None], images, ~images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """The first bits of each level, 1 to 8 of them, and zeros."""
    mask = (LEVELS - 2 ** (8 - bits.to(torch.int64))).to(torch.uint8)
    return images & sent(mask, images.device)[:, None, None, None]


def auto_contrast(images: Tensor) -> Tensor:
    """Levels stretched to 0 and 255 in each channel; flat channels stay as they are."""
    low, high = (
        each(images, dim=(2, 3), keepdim=True).to(torch.int32)
        for each in (torch.amin, torch.amax)
    )
    stretched = (images.to(torch.int32) - low) * (LEVELS - 1)
    stretched = stretched.div_((high - low).clamp_(min=1), rounding_mode="floor")
    return torch.where(high > low, stretched.to(torch.uint8), images)


def equalize(images: Tensor) -> Tensor:
    """Levels of each channel replaced by their share of pixels that are darker."""
    pixels = images.flatten(2).to(torch.int64)  # (n, C, HW)
    count = pixels.new_zeros((*pixels.shape[:2], LEVELS))
    count.scatter_add_(2, pixels, torch.ones_like(pixels))
    levels = torch.arange(LEVELS, device=images.device)
    brightest = levels.where(count > 0, 0).amax(2, keepdim=True)
    step = (pixels.shape[2] - count.gather(2, brightest)) // (LEVELS - 1)
    darker = count.cumsum(2) - count + step // 2
    table = (darker // step.clamp(min=1)).clamp_(max=LEVELS - 1)
    table = torch.where(step > 0, table, levels)  # too few kinds of pixels: as it is
    return table.gather(2, pixels).to(torch.uint8).view_as(images)
