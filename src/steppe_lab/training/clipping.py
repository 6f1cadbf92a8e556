"""Clipping of the gradient that a training steps with.

Source: Pascanu et al., 2013, arXiv:1211.5063, Algorithm 1 (by the norm).
"""

from __future__ import annotations

import math
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Clipping:
    """Clips final gradients, those that a method's passes have ended in.

    Gradients inside of a method, such as that which SAM climbs along, stay as they are.

    Args:
        norm: joint norm that longer gradients are shortened to; None for no such limit.
        value: magnitude that larger entries get; None for no such limit.
    """

    def __init__(self, norm: float | None = None, value: float | None = None) -> None:
        self._norm = norm
        self._value = value
        self._seen: list[Tensor] = []  # norms before, of the steps of this epoch

    def __call__(self, optimizer: Optimizer) -> None:
        """Clip `p.grad` of all parameters of an optimizer; no device is waited for."""
        if self._norm is None and self._value is None:
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
        self._seen.append(norm)
        if self._norm is not None:
            nn.utils.clip_grads_with_norm_(params, self._norm, norm)
        if self._value is not None:
            nn.utils.clip_grad_value_(params, self._value)

    def row(self) -> dict[str, float]:
        """Norms before clipping, for the history; the next epoch begins anew.

        Steps that an overflow spoilt, which are skipped, do not count.
        """
        if not self._seen:
            return {}
        norms = torch.stack(self._seen).tolist()
        self._seen = []
        finite = [norm for norm in norms if math.isfinite(norm)] or [math.nan]
        return {"grad_norm": fmean(finite), "grad_norm_max": max(finite)}
