"""What a method does with the parameters during its passes, and what it asks for."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self._groups = groups
        self._backup: dict[Tensor, Tensor] = {}
        self.depth = 0  # how many moves are in force; 0 means unperturbed

    def perturbed(self) -> list[Tensor]:
        """Parameters that may be moved: of groups whose `perturb` is true."""
        return [p for p, _ in self._movable()]

    def with_grad(self) -> tuple[list[Tensor], list[Tensor]]:
        """Movable parameters that have a gradient, and these gradients."""
        params = [p for p, _ in self._movable() if p.grad is not None]
        grads = [p.grad for p in params if p.grad is not None]
        return params, grads

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
            if old is None or old.shape != p.shape or old.dtype != p.dtype:
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
