"""Hugging Face Accelerate: the passes of a step over accumulated micro-batches.

::

    window = Window(accelerator, model, optimizer)  # all three prepared
    for x, y in loader:
        with accelerator.accumulate(model):
            for xs, ys in window.passes(x, y):
                accelerator.backward(loss_fn(model(xs), ys))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn

from steppe.errors import UsageError
from steppe.integrations.window import pieces, steppe_optimizer


class Window:
    """Micro-batches since the last optimizer step, and the passes over them.

    The gradient of every pass is that of all micro-batches and processes together.
    Gradients are reduced between processes once per pass.

    Args:
        accelerator: an `accelerate.Accelerator`.
        model: what `accelerator.prepare` made of it.
        optimizer: likewise; a steppe optimizer before that.

    Raises:
        UsageError: the optimizer is none of steppe's.
    """

    def __init__(self, accelerator: Any, model: nn.Module, optimizer: Any) -> None:
        opt = steppe_optimizer(optimizer)
        if opt is None:
            raise UsageError(
                "a Window needs a steppe optimizer, prepared or not, got "
                f"{type(getattr(optimizer, 'optimizer', optimizer)).__name__}; "
                "any other needs no Window."
            )
        self._accelerator = accelerator
        self._model = model
        self._optimizer = opt
        self._batches: list[tuple[Any, ...]] = []

    def passes(self, *batch: Any) -> Iterator[Any]:
        """Micro-batches to evaluate, each followed by `accelerator.backward`.

        Use it directly in a `for`, inside `accelerator.accumulate(model)`. Nothing is
        yielded before the last micro-batch of a step; all of them are with it.

        Args:
            batch: tensors, or nested lists and dicts of them, with rows along dim 0.

        Yields:
            As many values as `batch` has, bare if that is one.
        """
        self._batches.append(batch)
        if not self._accelerator.sync_gradients:
            return
        window, self._batches = self._batches, []
        for _ in self._optimizer.passes():
            parts = pieces(self._optimizer, window)
            for piece in parts:
                with (
                    synchronised(self._accelerator, self._model, piece is parts[-1]),
                    weighted(self._accelerator, piece.weight),
                ):
                    yield piece.batch[0] if len(batch) == 1 else piece.batch


@contextmanager
def synchronised(accelerator: Any, model: nn.Module, wanted: bool) -> Iterator[None]:
    """Reduce gradients between processes in here, or only add them up."""
    with nullcontext() if wanted else accelerator.no_sync(model):
        yield


@contextmanager
def weighted(accelerator: Any, weight: float) -> Iterator[None]:
    """Let `accelerator.backward` multiply the loss by a weight."""
    if weight == 1.0:
        yield
        return
    steps = accelerator.gradient_accumulation_steps
    accelerator.gradient_accumulation_steps = steps / weight
    try:
        yield
    finally:
        accelerator.gradient_accumulation_steps = steps
