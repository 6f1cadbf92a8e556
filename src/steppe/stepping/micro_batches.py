"""The gradient of a batch, summed over shares of it that are evaluated one by one."""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.stepping.context import FULL_BATCH, GradientRequest, StepContext
from steppe.stepping.loop import AbstractHook, nothing
from steppe.stepping.wrapper import check_all_batches_come
from steppe.torch_internals import tree_leaves, tree_map, version


class MicroBatches(AbstractHook):
    """Sums gradients in `p.grad`, each share weighted by its rows.

    Between the passes of one sum, `p.grad` is the sum so far in units of the current
    share's weight, so that `backward()` may simply add to it; after the last share it
    is the mean over the batch.
    """

    finish = nothing

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.weight = 1.0  # of the current share in the batch
        self._params: list[Tensor] = []
        self._request = FULL_BATCH
        self._rows: float = math.inf  # of the batch; unknown until `take`
        self._sums: list[_Running] | None = None  # before the present share

    @property
    def adds(self) -> bool:
        """Whether this pass adds to earlier ones."""
        return self._request.adds and self._request.part > 0

    @property
    def complete(self) -> bool:
        """Whether the sum is: a short batch has as many shares as it has rows."""
        request = self._request
        return not request.adds or request.part + 1 >= min(request.parts, self._rows)

    @property
    def whole(self) -> bool:
        """Whether this pass saw all of the batch, as each of the others will.

        Separate shares that nobody took are batches of their own, one per pass.
        """
        untaken = self._request.adds and self._rows == math.inf
        return self._request.parts == 1 or untaken

    def holds(self, request: GradientRequest) -> bool:
        """Whether the batch has that share: a short one has as many as it has rows."""
        return not request.adds or request.part < self._rows

    def start(self, step: StepContext) -> None:
        self._params = step.params
        if not step.accumulate:
            for p in step.params:
                p.grad = None  # its memory serves a method that moves weights at once

    def before_pass(self, index: int, request: GradientRequest) -> None:
        self._request = request
        if self.adds:
            self._sums = [_running(p) for p in self._params]
            return
        self._sums = None
        self.weight = 1.0 / request.parts if request.adds else 1.0
        for p in self._params:
            p.grad = None

    def after_pass(self, index: int) -> None:
        if not self._changed():
            raise UsageError(
                f"no parameter has a gradient after pass {index + 1}; call "
                "backward() in each pass (in a trainer: steppe.integrations)."
            )
        if self.weight != 1.0 and self.complete:
            # Now, not at the end of the loop: methods and the other hooks look at it.
            self.scale_(self.weight)

    def restore(self, completed: bool) -> None:
        self._forget()

    def differentiate(self, loss: Any) -> None:
        """Call `backward()` on the loss of a closure that has not done it itself."""
        if not isinstance(loss, Tensor) or not loss.requires_grad or self._changed():
            return
        try:
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            # It has, and has reached none of the parameters: `after_pass` says so.
            if "second time" not in str(error):
                raise

    def take(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """The current share of a batch; weighs the share by its rows."""
        part, parts = self._request.part, self._request.parts
        if parts == 1:
            return batch
        self._rows = rows = _common_rows(batch)
        if not self._request.adds:  # every share is needed: a short batch repeats rows
            parts = min(parts, rows)
            part %= parts
        sizes = [len(t) for t in torch.arange(rows, device="cpu").tensor_split(parts)]
        weight = sizes[part] / rows
        if self._request.adds and weight != self.weight:
            self.scale_(self.weight / weight)
            self.weight = weight

        def share(leaf: Any) -> Any:
            whole = isinstance(leaf, Tensor) and leaf.dim() > 0
            return leaf.tensor_split(parts)[part] if whole else leaf

        return tuple(tree_map(share, each) for each in batch)

    def scale_(self, factor: float | Tensor) -> None:
        """Multiply the sum, with gradients that a closure has dropped by setting None.

        That is no change by a pass, so versions that were noted go along.
        """
        sums = self._sums or []
        earlier = [old for old, _ in sums if old is not None]
        now = [p.grad for p in self._params if p.grad is not None]
        distinct = {id(t): t for t in (*earlier, *now)}
        before = {key: version(t) for key, t in distinct.items()}
        if distinct:
            torch._foreach_mul_(list(distinct.values()), factor)
        if self._sums is not None:
            self._sums = [
                (t, writes if t is None else writes + version(t) - before[id(t)])
                for t, writes in sums
            ]

    def _changed(self) -> bool:
        """Whether the present pass has computed any gradient."""
        if self._sums is None:
            return any(p.grad is not None for p in self._params)
        return _regain(self._params, self._sums)


class Outside:
    """Gradients that `backward()` added up before a closure, which is to go on.

    In plain torch a closure without `zero_grad()` adds to them, as trainers' closures
    do for the last micro-batch of a step; passes would drop them.
    """

    def __init__(self) -> None:
        self.cleared = False  # since the last step, so that gradients are new ones
        self._expected: Tensor | None = None  # a parameter that has one
        self._mark: Tensor | None = None

    def begin(self, params: list[Tensor]) -> None:
        """Note, before the first pass of a closure, whether there are any."""
        check_all_batches_come()
        with_grad = (p for p in params if p.grad is not None)
        self._expected = next(with_grad, None) if self.cleared else None
        self.cleared = False

    def mark(self) -> None:
        """Before a pass, put zeros where a closure that clears gradients drops them.

        It may clear them by `model.zero_grad()`, of which no optimizer hears.
        """
        if self._expected is not None:
            self._mark = torch.zeros_like(self._expected)
            self._expected.grad = self._mark

    def check(self) -> None:
        """After a pass, refuse a closure that has not cleared them in the first one."""
        kept = self._expected is not None and self._expected.grad is self._mark
        if kept and not self.cleared:
            raise UsageError(
                "step(closure) would lose the gradients that backward() has added up "
                "since zero_grad(); evaluate all micro-batches of the step in the "
                "closure, which begins with zero_grad() of this optimizer, and in a "
                "trainer see steppe.integrations."
            )
        self.cleared, self._expected, self._mark = False, None, None


_Running = tuple[Tensor | None, int]  # a gradient summed so far, and its version


def _running(p: Tensor) -> _Running:
    return p.grad, -1 if p.grad is None else version(p.grad)


def _regain(params: list[Tensor], sums: list[_Running]) -> bool:
    """Add back the sums that a closure has dropped by setting gradients to None.

    Returns:
        Whether any gradient has changed since the sums were noted.

    Raises:
        UsageError: a gradient with a graph, which autograd does not add in place, so
            that it may be the whole sum or the new share alone.
    """
    changed = False
    for p, (old, writes) in zip(params, sums, strict=True):
        if p.grad is old:
            changed |= old is not None and version(old) != writes
        elif old is None:
            changed = True
        elif p.grad is not None and p.grad.requires_grad:
            raise UsageError(
                "backward(create_graph=True) cannot add to the gradient of an earlier "
                "share of the batch; take inner derivatives by torch.autograd.grad and "
                "call backward() without it, or set micro_batches=1."
            )
        else:
            changed |= p.grad is not None
            p.grad = old if p.grad is None else old.add_(p.grad)
    return changed


def _common_rows(batch: Any) -> int:
    """Number of rows of all tensors of a batch, which must be the same.

    Raises:
        UsageError: tensors of several lengths, none at all, or something that cannot be
            shared out, such as a list of texts.
    """
    leaves = tree_leaves(batch)
    strange = [type(x).__name__ for x in leaves if not isinstance(x, Tensor | Number)]
    if strange:
        raise UsageError(
            f"take() shares out tensors along their rows, got {strange[0]}; "
            "give it the tensors of the batch alone."
        )
    rows = {len(x) for x in leaves if isinstance(x, Tensor) and x.dim() > 0}
    if len(rows) != 1:
        raise UsageError(
            f"take() needs tensors with one number of rows, got {sorted(rows)}; "
            "leave out what is not per row, such as class weights."
        )
    if 0 in rows:
        raise UsageError("take() got a batch without rows; skip empty batches.")
    return rows.pop()
