"""The mean loss at points of a subspace.

Shape letters: X points along an axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Mean loss at points of a subspace; the stderr is over the data samples."""

    x: tuple[float, ...]  # (X,) coordinates along the first direction
    loss: Tensor  # (X,) float64
    stderr: Tensor  # (X,) float64, standard error of the mean loss over the samples
    samples: int
    details: Mapping[str, Any] = field(default_factory=dict)
