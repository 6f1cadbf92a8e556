"""Gradients of single samples as vectors, a bounded number of them at a time.

A sample is a row of a batch where the losses of a batch are those of its rows each for
itself, and a loss term elsewhere, as with batch statistics or batches without rows. A
row with several loss terms, such as tokens, is one sample: its loss is their sum.

Source: `torch.func`'s vmap over gradients of rows; Goodfellow, 2015, arXiv:1510.01799,
is the cheaper way where norms alone are asked (`steppe.curvature.per_sample`).

Shape letters: B rows of a batch, b samples of a chunk, D parameters in all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from steppe.cost import Cost
from steppe.curvature.products.functional import Functional
from steppe.losses import FAILURES
from steppe.measures.measurement import Measurement, Need
from steppe.measuring.model_state import apart
from steppe.objective import Objective
from steppe.samples import is_row_by_row, rows_of, take_rows
from steppe.torch_internals import tree_map

AT_ONCE = 2**23  # numbers of a chunk of gradients, unless one sample has more
SampleKind = Literal["rows", "loss terms"]
Run = Callable[[Any], Tensor]


@dataclass(frozen=True)
class KindOfSamples(Need[SampleKind]):
    """Rows of the batches where their losses are independent, else loss terms."""

    kind: ClassVar[str] = "samples"

    def serve(self, measurement: Measurement) -> SampleKind:
        """Compare the losses of a batch with those of its halves."""
        objective = measurement.objective
        if any(rows_of(batch) is None for batch in objective.batches):
            return "loss terms"
        spent = Cost(forwards=2 / len(objective.batches))
        objective.cost += spent
        objective.checks += spent
        return "rows" if is_row_by_row(objective) else "loss terms"


class RowGradients:
    """Gradients of the samples of an objective, batch by batch.

    Args:
        objective: gives the batches and the parameters.
        kind: of samples, rows or loss terms.
        run: function of a batch on the device to differentiate: losses, or outputs with
            the samples along dimension 0.
    """

    def __init__(self, objective: Objective, kind: SampleKind, run: Run) -> None:
        self.objective = objective
        self.kind = kind
        self.run = run
        variables = dict(zip(objective.names, objective.params, strict=True))
        size = sum(p.numel() for p in objective.params)
        self.at_once = max(1, AT_ONCE // max(1, size))
        self._functional = Functional(objective.model, variables, run, 1, False)
        self._mapped = True  # a transform over rows works, as far as is known

    def of_losses(self, index: int, losses: Tensor) -> Iterator[Tensor]:
        """Gradients of the loss of each sample of a batch, in chunks (b, D).

        Call it inside `measuring()` and `twice_differentiable`.

        Args:
            index: of the batch.
            losses: loss terms of the whole batch, which are known.
        """
        batch = self.objective.batch(index)
        if self.kind == "loss terms":
            yield from self._by_terms(batch, torch.ones_like(losses))
            return
        rows = rows_of(batch) or 0
        # Rows of unequal numbers of terms have no common shape for a transform.
        even = rows > 0 and len(losses) > 0 and len(losses) % rows == 0
        known = losses.reshape(rows, -1).sum(1) if even else None
        yield from self._by_rows(batch, rows, None, known)

    def of_outputs(self, index: int, weights: Tensor) -> Iterator[Tensor]:
        """Gradients of the weighed outputs of each row of a batch, in chunks (b, D).

        Args:
            index: of the batch.
            weights: shaped like the outputs of the whole batch.
        """
        batch = self.objective.batch(index)
        if self.kind == "loss terms":
            yield from self._by_terms(batch, weights)
        else:
            yield from self._by_rows(batch, len(weights), weights, None)

    def _by_rows(
        self, batch: Any, rows: int, weights: Tensor | None, known: Tensor | None
    ) -> Iterator[Tensor]:
        for start in range(0, rows, self.at_once):
            numbers = torch.arange(start, min(start + self.at_once, rows), device="cpu")
            part = take_rows(batch, numbers)
            some = None if weights is None else weights[start : start + self.at_once]
            expected = None if known is None else known[start : start + self.at_once]
            # A transform over one row of a large network costs more than the row.
            mapped = self._mapped and self.at_once > 1
            mapped = mapped and (some is not None or expected is not None)
            chunk = self._at_once(part, some, expected) if mapped else None
            yield self._one_by_one(part, len(numbers), some) if chunk is None else chunk

    def _at_once(
        self, part: Any, weights: Tensor | None, expected: Tensor | None
    ) -> Tensor | None:
        """Gradients of some rows by a transform; None where it does not work."""
        of = self._functional

        def value(at: dict[str, Tensor], row: Any, weight: Tensor | None) -> Tensor:
            alone = tree_map(lambda t: t.unsqueeze(0), row)
            numbers = of.call(at, alone)
            return (numbers if weight is None else numbers * weight).sum()

        over = (None, 0, None if weights is None else 0)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # where torch loops over the rows
                gradients, values = vmap(grad_and_value(value), in_dims=over)(
                    of.values(), part, weights
                )
        except torch.OutOfMemoryError:
            raise
        except FAILURES:  # data-dependent code, or operations without a rule
            self._mapped = False
            return None
        if expected is not None and apart(values, expected, self.objective.dtype):
            self._mapped = False
            return None
        return of.joined(gradients, len(values))

    def _one_by_one(self, part: Any, rows: int, weights: Tensor | None) -> Tensor:
        gradients = []
        for row in range(rows):
            numbers = self.run(take_rows(part, torch.tensor([row], device="cpu")))
            if weights is not None:
                numbers = numbers * weights[row]
            if numbers.numel():  # else no target of the row counts
                gradients.append(self._gradient(numbers.sum()))
        return torch.stack(gradients) if gradients else self._nothing()

    def _by_terms(self, batch: Any, weights: Tensor) -> Iterator[Tensor]:
        numbers = self.run(batch)
        for start in range(0, len(numbers), self.at_once):
            places = range(start, min(start + self.at_once, len(numbers)))
            sums = [(numbers[i] * weights[i]).sum() for i in places]
            yield torch.stack([self._gradient(each, retain=True) for each in sums])

    def _gradient(self, value: Tensor, retain: bool = False) -> Tensor:
        params = self.objective.params
        if not value.requires_grad:  # no parameter has an influence
            return torch.cat([torch.zeros_like(p).flatten() for p in params]).detach()
        gradients = torch.autograd.grad(
            value, params, retain_graph=retain, materialize_grads=True
        )
        return torch.cat([g.flatten() for g in gradients])

    def _nothing(self) -> Tensor:
        params = self.objective.params
        return params[0].new_zeros((0, sum(p.numel() for p in params)))
