"""The diagonal of a symmetric operator.

Shape letters: D parameters in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steppe.results.estimate import Cost


@dataclass(frozen=True, kw_only=True)
class Diagonal:
    """The diagonal of a symmetric operator."""

    values: Tensor  # (D,)
    stderr: Tensor  # (D,) of the values; zeros when nothing was sampled
    samples: int  # independent draws; 0 when nothing was sampled
    converged: bool = True  # False when a budget ended before the asked accuracy
    cost: Cost = field(default_factory=Cost)
    details: Mapping[str, Any] = field(default_factory=dict)
