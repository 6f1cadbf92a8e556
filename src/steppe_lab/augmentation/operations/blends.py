"""Blends of images with plainer ones: black, grey, without colour, smoothed.

Source: `Brightness`, `Contrast`, `Color` and `Sharpness` of Pillow's ImageEnhance. The
factor is 0 for the plainer image, 1 for the image, and beyond for more contrast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steppe_lab.transfer import sent

# Luma of ITU-R 601 with 16 binary digits, as Pillow converts to grey.
RED, GREEN, BLUE, HALF, BITS = 19595, 38470, 7471, 1 << 15, 16


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with black."""
    return _blend(torch.zeros_like(images), images, factors)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the mean grey level of each image."""
    luma = _grey(images)
    pixels = luma[0].numel()
    total = luma.sum(dim=(1, 2, 3), keepdim=True)
    return _blend((2 * total + pixels) // (2 * pixels), images, factors)


def color(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with the image in grey."""
    return _blend(_grey(images), images, factors)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blends with means of 3 x 3 pixels, the middle one five times; not at borders."""
    smooth = images.to(torch.int32)
    if min(images.shape[2:]) >= 3:
        rows = smooth[:, :, :-2] + smooth[:, :, 1:-1] + smooth[:, :, 2:]
        square = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
        inner = smooth[:, :, 1:-1, 1:-1]
        # The nearest whole number to s / 13, which is never halfway.
        inner.copy_((2 * (square + 4 * inner) + 13) // 26)
    return _blend(smooth, images, factors)


def _grey(images: Tensor) -> Tensor:
    """Grey levels, int32 of shape (n, 1, H, W)."""
    if images.shape[1] == 1:
        return images.to(torch.int32)
    levels = images.to(torch.int32)
    red, green, blue = levels[:, :1], levels[:, 1:2], levels[:, 2:]
    return (red * RED + green * GREEN + blue * BLUE + HALF) >> BITS


def _blend(plain: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Plainer image + factor (image - plainer image), cut at 0 and 255."""
    factor = sent(factors.to(torch.float32), images.device)[:, None, None, None]
    start = plain.to(torch.float32)
    # Pillow rounds the product, the sum, and then towards zero.
    step = (images.to(torch.float32) - start).mul_(factor)
    return step.add_(start).clamp_(0, 255).to(torch.uint8)
