"""Tensors sent from the host to a device, and numbers read from there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; those of the host are sent without waiting for it."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    # Only from pinned memory does a copy not wait for what the device is doing.
    return values.pin_memory().to(device, non_blocking=True)


def numbers(scalars: Sequence[Tensor | float]) -> list[float]:
    """Values of scalars; a device that holds all of them is waited for once."""
    if all(isinstance(each, Tensor) and each.device.type != "cpu" for each in scalars):
        return torch.stack(list(scalars)).tolist() if scalars else []  # type: ignore[arg-type]
    return [float(each) for each in scalars]
