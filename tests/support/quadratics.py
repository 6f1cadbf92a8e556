"""A quadratic in two parameters, and what methods see of it, by hand in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

H = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, -0.5], [0.0, -0.5, 0.25]])
START = np.array([0.3, -1.0, 3.0])


def quadratic(w: Tensor) -> Tensor:
    return w @ torch.from_numpy(H) @ w / 2


def parameters() -> list[nn.Parameter]:
    start = torch.from_numpy(START.copy())
    return [nn.Parameter(start[:1].clone()), nn.Parameter(start[1:].clone())]


def values(params: list[nn.Parameter]) -> np.ndarray:
    return torch.cat(params).detach().numpy()


def two_gradients(w: np.ndarray, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """The gradient here, and the one rho uphill."""
    g = H @ w
    return g, H @ (w + rho * g / (np.linalg.norm(g) + 1e-12))
