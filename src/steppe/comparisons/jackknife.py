"""The jackknife that leaves out a group of samples at a time.

Source: Busing, Meijer and van der Leeden, 1999, doi:10.1023/A:1008800423698, for groups
that differ in size; for equal ones it is that of Quenouille and Tukey.

Shape letters: G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor


def jackknife(full: float, without: Tensor, left_out: Tensor) -> tuple[float, float]:
    """Bias of order 1 / N of a statistic, and its standard error.

    Intervals are to have the statistic itself in their middle: the value without its
    bias varies more, and their coverage is no better (`benchmarks/coverage.py`).

    Args:
        full: the statistic of all data.
        without: that of the data without each group, shape (G,), float64.
        left_out: size of each group as a share of the data, shape (G,); they sum to 1.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> without = (x.sum() - x) / 2  # means of two
        >>> bias, error = jackknife(3.0, without, torch.ones(3).double() / 3)
        >>> round(abs(bias), 3), round(error, 3), round(float(x.std()) / 3**0.5, 3)
        (0.0, 1.528, 1.528)
    """
    groups, ratio = len(without), 1 / left_out
    corrected = groups * full - float(((1 - left_out) * without).sum())
    pseudo = ratio * full - (ratio - 1) * without
    variance = ((pseudo - corrected).square() / (ratio - 1)).mean()
    return full - corrected, float(variance.sqrt())


def groups_of(units: int, groups: int, generator: torch.Generator) -> Tensor:
    """Number of the group that each unit is in, shape (units,), by a random deal."""
    order = torch.randperm(units, generator=generator, device="cpu")
    numbers = torch.empty(units, dtype=torch.int64, device="cpu")
    numbers[order] = torch.arange(units, device="cpu") * groups // units
    return numbers
