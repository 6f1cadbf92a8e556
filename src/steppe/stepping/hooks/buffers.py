"""Buffers and metrics of a model as the first pass of a step leaves them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from steppe.parameters import BufferSnapshot, MetricSnapshot
from steppe.stepping.loop import AbstractHook, nothing
from steppe.stepping.micro_batches import MicroBatches


class Buffers(AbstractHook):
    """Running statistics are those of the first pass, at the unperturbed weights.

    Args:
        model: with the buffers.
    """

    start = before_pass = finish = nothing

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._first: BufferSnapshot | None = None

    def after_pass(self, index: int) -> None:
        if index == 0:
            self._first = BufferSnapshot(self._model)

    def restore(self, completed: bool) -> None:
        # After an error too: later passes ran at weights that nobody asked for.
        first, self._first = self._first, None
        if first is not None:
            first.put_back()


class ModelMetrics(AbstractHook):
    """Metrics inside a model count every row of the batch once.

    Args:
        metrics: modules in the model that count the batches they see.
        micro_batches: of the optimizer.
    """

    start = before_pass = finish = nothing

    def __init__(
        self, metrics: Sequence[nn.Module], micro_batches: MicroBatches
    ) -> None:
        self._metrics, self._micro_batches = metrics, micro_batches
        self._first: MetricSnapshot | None = None

    def after_pass(self, index: int) -> None:
        # Shares of a batch are different rows: only whole batches are counted twice.
        if index == 0 and self._micro_batches.whole:
            self._first = MetricSnapshot(self._metrics)

    def restore(self, completed: bool) -> None:
        first, self._first = self._first, None
        if first is not None:
            first.put_back()
