"""What the driver keeps aside while passes run: gradients and random state."""

from __future__ import annotations

import torch
from torch import Tensor


def add_running(
    params: list[Tensor], running: list[Tensor | None], *, add: bool
) -> None:
    """Give `p.grad` back what it held before a loop, with or without the loop's own."""
    for p, old in zip(params, running, strict=True):
        if not add or p.grad is None:
            p.grad = old
        elif old is not None:
            p.grad = old.add_(p.grad)


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
