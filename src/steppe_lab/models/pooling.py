"""Max-pooling of 2 x 2 pixels, quickly where no gradient is asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HalvingMaxPool(nn.Module):
    """Largest pixel of each 2 x 2 window; a last odd row or column is left out.

    The same values as `nn.MaxPool2d(2)`. Torch's kernel also notes where each value
    came from, which takes longer than the convolutions of a small network; two
    maxima of neighbours do not, and serve wherever nothing is differentiated.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool images, shape (..., H, W), to (..., H // 2, W // 2)."""
        if torch.is_grad_enabled():
            return F.max_pool2d(x, 2)
        rows, columns = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        # Rows first: their halves are read in the order of the memory.
        upper, lower = x[..., :rows:2, :columns], x[..., 1:rows:2, :columns]
        tall = torch.maximum(upper, lower)
        return torch.maximum(tall[..., ::2], tall[..., 1::2])
