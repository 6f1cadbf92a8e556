"""What the driver keeps aside between passes: gradients, buffers, random state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def scale_grads(params: list[Tensor], factor: float) -> None:
    grads = [p.grad for p in params if p.grad is not None]
    if grads:
        torch._foreach_mul_(grads, factor)


def regain_sums(params: list[Tensor], kept: list[Tensor | None]) -> None:
    """Add back sums that a closure dropped by clearing gradients itself."""
    for p, old in zip(params, kept, strict=True):
        if old is not None and p.grad is not old:
            p.grad = old if p.grad is None else old.add_(p.grad)


def add_running(
    params: list[Tensor], running: list[Tensor | None], *, add: bool
) -> None:
    for p, old in zip(params, running, strict=True):
        if not add or p.grad is None:
            p.grad = old
        elif old is not None:
            p.grad = old.add_(p.grad)


class Buffers:
    """Buffers as the first pass leaves them: its running statistics are kept."""

    def __init__(self, model: nn.Module | None) -> None:
        self._buffers = list(model.buffers()) if model is not None else []
        self._saved: list[Tensor] = []

    def keep(self) -> None:
        self._saved = [b.clone() for b in self._buffers]

    def put_back(self) -> None:
        if self._saved:
            with torch.no_grad():
                torch._foreach_copy_(self._buffers, self._saved)


class RandomState:
    """Torch's generators at the first pass, to replay its draws in later ones."""

    def __init__(self, params: list[Tensor]) -> None:
        self._cpu = torch.get_rng_state()
        devices = {p.device for p in params if p.is_cuda}
        self._cuda = {d: torch.cuda.get_rng_state(d) for d in devices}

    def put_back(self) -> None:
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
