"""Gradients and steps in the directions of the last measurement, as numbers of a row.

Shape letters: D parameters in all, K eigenpairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.parameters import flatten

Row = dict[str, float]


class StepStatistics:
    """Parts of gradients and steps along the directions, since the last row.

    Args:
        steps: note the displacement of every step too, which takes one more copy of
            the parameters.
    """

    def __init__(self, steps: bool) -> None:
        self._steps = steps
        self._basis: Tensor | None = None  # (D, K + 1): directions and gradient
        self._before: Tensor | None = None  # parameters before the step, (D,)
        self._gradients: list[Tensor] = []
        self._moves: list[Tensor] = []

    @property
    def started(self) -> bool:
        """Whether there are directions."""
        return self._basis is not None

    def restart(
        self, directions: Tensor, gradient: Tensor, params: Sequence[Tensor]
    ) -> None:
        """Begin with the directions of a new row.

        Args:
            directions: shape (D, K).
            gradient: of the objective, shape (D,).
            params: at this row.
        """
        self._basis = torch.cat([directions, gradient[:, None]], dim=1)
        self._gradients, self._moves = [], []
        self._before = _joined(params) if self._steps else None

    def observe(self, params: Sequence[Tensor]) -> None:
        """Note the gradient in `p.grad`."""
        if self._basis is None:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        self._gradients.append(_shares(flatten(grads).detach(), self._basis))

    def after_step(self, params: Sequence[Tensor]) -> None:
        """Note the displacement of a step."""
        if not self._steps or self._basis is None or self._before is None:
            return
        now = _joined(params)
        self._moves.append(_shares(now - self._before, self._basis))
        self._before = now

    def row(self) -> Row:
        """Averages over the steps since the last row."""
        return (
            cosines_of(self._gradients)
            | shares_of("alex_alpha", self._gradients)
            | shares_of("alex_v", self._moves)
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that was noted since the last row."""
        return {
            "basis": self._basis,
            "before": self._before,
            "gradients": list(self._gradients),
            "moves": list(self._moves),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self._basis, self._before = state["basis"], state["before"]
        self._gradients, self._moves = list(state["gradients"]), list(state["moves"])


def cosines_of(gradients: Sequence[Tensor]) -> Row:
    """Mean, mean magnitude and spread of the cosines, column by column."""
    if not gradients:
        return {}
    drawn = torch.stack(list(gradients)).double().cpu()
    cosines = drawn[:, :-1] / drawn[:, -1:].clamp(min=1e-300)
    names = [str(i) for i in range(cosines.shape[1] - 1)] + ["fbg"]
    row: Row = {}
    for name, column in zip(names, cosines.T, strict=True):
        row[f"alig/{name}_mean"] = float(column.mean())
        row[f"alig/{name}_abs_mean"] = float(column.abs().mean())
        row[f"alig/{name}_std"] = float(column.std(correction=0))
    return row


def shares_of(name: str, drawn: Sequence[Tensor]) -> Row:
    """Mean of the sum of |U'x|, and of that over the norm of x."""
    if not drawn:
        return {}
    both = torch.stack(list(drawn)).double().cpu()
    sums = both[:, :-2].abs().sum(1)
    shares = sums / both[:, -1].clamp(min=1e-300)
    return {f"{name}_sum": float(sums.mean()), f"{name}_norm_sum": float(shares.mean())}


def _shares(vector: Tensor, basis: Tensor) -> Tensor:
    """Parts of a vector along the directions and the gradient, and its norm."""
    basis = basis.to(vector.dtype)
    lengths = basis.norm(dim=0)
    along = (vector @ basis) / lengths.clamp(min=torch.finfo(basis.dtype).tiny)
    return torch.cat([along, vector.norm()[None]])  # stays on its device: no host sync


def _joined(params: Sequence[Tensor]) -> Tensor:
    return flatten([p.detach() for p in params])
