"""What a method does with the parameters during its passes, and what it asks for."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steppe.errors import UsageError


@dataclass(frozen=True)
class Request:
    """A gradient is wanted here: of the whole batch, or of one share of it.

    The gradients of the shares of a batch are added, weighted by their rows.
    """

    part: int = 0
    parts: int = 1


WHOLE = Request()
Plan = Generator[Request, None, None]


class Weights:
    """What a method may do with the parameters while its passes run."""

    def __init__(self) -> None:
        self._groups: Sequence[dict[str, Any]] = ()
        self._backup: dict[Tensor, Tensor] = {}
        self._doubt: Tensor | None = None
        self.depth = 0  # how many moves are in force; 0 means unperturbed

    def begin(self, groups: Sequence[dict[str, Any]]) -> None:
        """Start the passes of a step."""
        self._groups, self._doubt = groups, None

    def perturbed(self) -> list[Tensor]:
        """Parameters that may be moved: of groups whose `perturb` is true."""
        return [p for p, _ in self._movable()]

    def with_grad(self) -> tuple[list[Tensor], list[Tensor]]:
        """Movable parameters that have a gradient, and these gradients."""
        params = [p for p, _ in self._movable() if p.grad is not None]
        grads = [p.grad for p in params if p.grad is not None]
        if any(g.is_sparse for g in grads):
            raise UsageError(
                "a sparse gradient cannot be climbed; make the embedding with "
                "sparse=False, or leave its group out with perturb=False."
            )
        return params, grads

    def watch(self, norm: Tensor) -> None:
        """Let the step's gradient be NaN if this norm of an earlier one is not finite.

        A `GradScaler` then skips the step, as it does when the last pass overflows.
        """
        self._doubt = norm

    @torch.no_grad()
    def spread_doubt(self) -> None:
        """Put the doubt of a watched norm into the final gradient, without a sync."""
        if self._doubt is None:
            return
        params = [p for group in self._groups for p in group["params"]]
        grads = [p.grad for p in params if p.grad is not None and p.grad.numel()]
        if grads:
            first = grads[0][(0,) * grads[0].dim()]
            first.add_((self._doubt * 0).to(first.device, first.dtype))

    def setting(self, name: str, params: Sequence[Tensor]) -> list[float]:
        """The value of a setting for each of some parameters, by their group."""
        values = {p: float(group[name]) for p, group in self._movable()}
        return [values[p] for p in params]

    @contextmanager
    def moved(self, params: list[Tensor], deltas: list[Tensor]) -> Iterator[None]:
        """Add `deltas` to `params`; copy the old values back at the end."""
        saved = self._save(params)
        try:
            self.depth += 1
            if params:
                torch._foreach_add_(params, deltas)
            yield
        finally:
            if params:
                with torch.no_grad():
                    torch._foreach_copy_(params, saved)
            self.depth -= 1

    def _save(self, params: list[Tensor]) -> list[Tensor]:
        if self.depth:
            return [p.detach().clone() for p in params]
        for p in params:
            old = self._backup.get(p)
            if old is None or _kind(old) != _kind(p):
                self._backup[p] = torch.empty_like(p, requires_grad=False)
        saved = [self._backup[p] for p in params]
        if params:
            torch._foreach_copy_(saved, params)
        return saved

    def _movable(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        for group in self._groups:
            if group["perturb"]:
                for p in group["params"]:
                    if p.requires_grad:
                        yield p, group


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device
