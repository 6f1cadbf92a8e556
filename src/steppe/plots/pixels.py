"""Pixels as image files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from steppe.errors import UsageError, install


def pixels_png(pixels: NDArray[np.floating]) -> bytes:
    """An image as a PNG file, one pixel for each of its pixels.

    Args:
        pixels: shape (H, W) or (H, W, 3), from 0 for black to 1; what is beyond is cut.

    Raises:
        UsageError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(
            f"images are written with pillow, which is not installed; "
            f"{install('landscapes')}."
        ) from error
    levels = np.rint(255 * np.clip(pixels, 0.0, 1.0)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, format="PNG")
    return buffer.getvalue()
