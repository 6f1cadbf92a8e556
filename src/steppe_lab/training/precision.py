"""Precision of a training: autocast around forward pass and loss, and the loss scale.

Weights, momenta and averages stay in float32. In float16 small gradients would round to
0, so that the loss is multiplied by a scale before `backward()` (Micikevicius et al.,
2018, Mixed Precision Training, arXiv:1710.03740); torch's `GradScaler` adapts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError
from steppe.registry.registry import one_line

Amp = Literal["off", "bf16", "fp16"]
DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Precision of the forward passes of a training, and the scale of its losses.

    The gradient that a method gives is unscaled, then clipped, then stepped with. A
    step whose gradient is not finite because of the scale is skipped.

    Args:
        amp: lower precision of the forward pass and the loss.
        device: of the training.
    """

    def __init__(self, amp: Amp, device: str | torch.device) -> None:
        self._kind = torch.device(device).type
        self._dtype = DTYPES[amp]
        self.scaler = torch.amp.GradScaler(self._kind) if amp == "fp16" else None
        self._tried = self._taken = 0  # steps since the last look

    def count_steps_of(self, optimizer: Optimizer) -> None:
        """Count the steps that an optimizer takes; reading the scale would wait."""

        def taken(*_: object) -> None:
            self._taken += 1

        if self.scaler is not None:
            optimizer.register_step_post_hook(taken)

    def autocast(self) -> AbstractContextManager[Any]:
        """The surroundings of a forward pass and its loss."""
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._kind, dtype=self._dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to those there are, in units of the scale."""
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def complete_gradient(self, optimizer: Optimizer) -> None:
        """Make the gradient of finished passes the one to step with."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Step with the completed gradient, unless an overflow spoilt it."""
        if self.scaler is None:
            optimizer.step()
            return
        self._tried += 1
        self.scaler.step(optimizer)
        self.scaler.update()

    def row(self) -> dict[str, float]:
        """Numbers of the epoch for the history; the count begins anew."""
        if self.scaler is None:
            return {}
        skipped = self._tried - self._taken
        self._tried = self._taken = 0
        return {"skipped_steps": skipped}

    def state_dict(self) -> dict[str, Any]:
        """The scale, and when it grows next; empty where there is none."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the values of `state_dict`."""
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(state))


def check_precision(amp: Amp, device: str) -> None:
    """Try a small product under autocast.

    Raises:
        SettingError: the device cannot compute so.
    """
    try:
        with Precision(amp, device).autocast(), torch.no_grad():
            one = torch.ones(1, 1, device=device)
            (one @ one).item()
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"amp must be one that {device} can compute in, got {amp} "
            f"({one_line(error)})."
        ) from None
