"""Losses and gradients of random parts of the data.

Shape letters: P parameter tensors, N loss terms, R rows of all batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.objective import Objective
from steppe.samples import gathered, is_row_by_row, joinable, rows_of
from steppe.torch_internals import tree_map

Kind = Literal["all data", "rows", "batches"]


@dataclass(frozen=True)
class MinibatchesOf(Need["Minibatches"]):
    """Random parts of the data, of a size.

    Args:
        size: of a part, in rows, and in loss terms where parts are whole batches; 0 for
            all of the data.
    """

    kind: ClassVar[str] = "minibatches"

    size: int

    def serve(self, measurement: Measurement) -> Minibatches:
        """Look at the rows of the data."""
        objective = measurement.objective
        return Minibatches(objective, measurement.of(LossTerms()), self.size)


class Minibatches:
    """Parts of the data whose losses and gradients are unbiased for those of all.

    A part is of rows, drawn without replacement, where rows of all batches can stand in
    one batch and have their losses each for itself; elsewhere, as with statistics of
    the batch, it is of whole batches. Sums over a part are scaled by the share of rows
    or batches, so that every loss term weighs alike.

    Args:
        objective: with the data.
        terms: its loss terms of each batch at the present parameters, shape (terms,).
        size: of a part, see `MinibatchesOf`.
    """

    def __init__(
        self, objective: Objective, terms: Sequence[Tensor], size: int
    ) -> None:
        self.objective = objective
        self._sums = torch.stack([losses.double().sum() for losses in terms])
        counts = [losses.numel() for losses in terms]
        self._count = sum(counts)
        sizes = [rows_of(batch) or 0 for batch in objective.batches]
        self._ends = torch.tensor(sizes, device="cpu").cumsum(0)
        by_rows = 0 < size < sum(sizes) and _has_rows(objective)
        self._terms = torch.cat(list(terms)).double() if counts == sizes else None
        self.kind: Kind = "rows" if by_rows else "batches"
        units = sum(sizes) if by_rows else len(terms)
        part = size if by_rows else max(1, round(size * units / self._count))
        if not size or part >= units:
            self.kind, part, units = "all data", len(terms), len(terms)
        self._part, self._units = part, units
        # A sum over a part times it is an estimate of the mean over all terms.
        self._scale = units / part / self._count

    @property
    def share(self) -> float:
        """Share of the data that a part is."""
        return self._part / self._units

    def gradient(
        self, params: Sequence[Tensor], source: torch.Generator
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradient on the next part; call it inside `measuring()`.

        The loss is less that of the part at the first parameters, and more that of all
        of the data there: an estimate of the same mean with less noise. Where it is not
        known which loss terms belong to a row, nothing is subtracted.

        Args:
            params: P parameters of the objective to differentiate by.
            source: of the draws.

        Returns:
            The loss, shape (), float64, on the device, and P tensors.
        """
        self.objective.renew_statistics()
        batches, correction = self._draw(source)
        loss = torch.zeros((), dtype=torch.float64, device=self.objective.device)
        total = [torch.zeros_like(p) for p in params]
        with torch.enable_grad():
            for batch in batches:
                losses = self.objective.losses_on(batch())
                loss += losses.detach().double().sum()
                if not losses.requires_grad:  # no parameter has an influence
                    continue
                grads = torch.autograd.grad(
                    losses.sum(), params, materialize_grads=True
                )
                torch._foreach_add_(total, list(grads))
        torch._foreach_mul_(total, self._scale)
        penalty = self.objective.penalty
        if penalty is not None:
            for gradient, p in zip(total, params, strict=True):
                gradient.add_(p.detach(), alpha=penalty.curvature(p))
        value = loss * self._scale + correction + self.objective.penalty_value()
        return value, total

    def _draw(self, source: torch.Generator) -> tuple[list[Any], Tensor | float]:
        """Functions that give batches of the next part; the correction of its loss."""
        batch = self.objective.batch
        if self.kind == "all data":
            return [lambda i=i: batch(i) for i in range(self._units)], 0.0
        numbers = torch.randperm(self._units, generator=source, device="cpu")[
            : self._part
        ]
        mean = self._sums.sum() / self._count
        if self.kind == "batches":
            here = self._sums[numbers.to(self._sums.device)].sum()
            parts = [lambda i=i: batch(i) for i in numbers.tolist()]
            return parts, mean - here * self._scale
        rows = gathered(self.objective.batches, numbers, self._ends)
        if self._terms is None:
            return [lambda: self._moved(rows)], 0.0
        here = self._terms[numbers.to(self._terms.device)].sum()
        return [lambda: self._moved(rows)], mean - here * self._scale

    def _moved(self, rows: Any) -> Any:
        return tree_map(lambda t: t.to(self.objective.device), rows)


def _has_rows(objective: Objective) -> bool:
    return joinable(objective.batches) and is_row_by_row(objective)
