"""What the driver keeps aside while the passes of a step run, and puts back."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Generator

import torch
from torch import Tensor

from steppe.noise import joint_dot, joint_norm
from steppe.parameters import BufferSnapshot, MetricSnapshot
from steppe.stepping.context import StepContext
from steppe.stepping.gradient_sync import GradientSync
from steppe.stepping.metrics import StepMetrics
from steppe.stepping.options import CheckedOptions

Loop = Generator[int, None, None]


def is_over(loop: Loop) -> bool:
    """Whether a loop of passes has ended or been closed."""
    return inspect.getgeneratorstate(loop) == inspect.GEN_CLOSED


class OpenLoop:
    """The loop of passes that was begun last, as long as its caller keeps it."""

    def __init__(self, loop: Loop | None = None) -> None:
        self._loop = None if loop is None else weakref.ref(loop)

    def get(self) -> Loop | None:
        """The loop, unless it is over."""
        loop = None if self._loop is None else self._loop()
        return None if loop is None or is_over(loop) else loop

    def close(self) -> bool:
        """End it, so that the weights come back; tells whether it was still open."""
        loop = self.get()
        if loop is not None:
            loop.close()
        return loop is not None


class Aside:
    """Gradients, buffers and random state beside one loop of passes.

    Args:
        options: what is to be kept.
        gradient_sync: of the optimizer.
        params: P parameters.
        statistics: whether running statistics are those of the first pass.
        accumulate: whether the loop adds to what `p.grad` holds.
    """

    def __init__(
        self,
        options: CheckedOptions,
        gradient_sync: GradientSync,
        params: list[Tensor],
        *,
        statistics: bool,
        accumulate: bool,
    ) -> None:
        self._options, self._gradient_sync, self._params = (
            options,
            gradient_sync,
            params,
        )
        if gradient_sync.gradients_are_bucket_views:
            _own_gradients(params)
        self._running = [p.grad for p in params] if accumulate else None
        self._final = False
        self._random = RandomState(params) if options.rng == "replay" else None
        self._statistics_of = options.model if statistics else None
        self._buffers: BufferSnapshot | None = None
        self._metrics: MetricSnapshot | None = None
        self._first: dict[Tensor, Tensor] = {}
        gradient_sync.begin()

    def before(self, index: int, *, final: bool) -> None:
        """Get ready for pass `index`."""
        self._final = final and self._running is None
        self._gradient_sync.prepare(final=self._final)
        if self._random is not None and index > 0:
            self._random.put_back()

    def after(self, index: int, step: StepContext, *, whole: bool) -> None:
        """Keep what the first pass left, and gradients of any pass for the method.

        Args:
            index: of the pass.
            step: the running one.
            whole: whether every pass sees the batch that this one saw.
        """
        if self._gradient_sync.gradients_are_bucket_views and not self._final:
            _own_gradients(self._params)
        if index > 0:
            return
        if self._statistics_of is not None:
            self._buffers = BufferSnapshot(self._statistics_of)
        if whole and self._options.metrics:
            self._metrics = MetricSnapshot(self._options.metrics)
        if self._options.monitor:
            self._first = {p: g.clone() for p, g in step.gradients().items()}

    def end(self, *, finished: bool) -> None:
        """Put everything back; with a finished loop, add to the running gradient."""
        self._gradient_sync.end()
        if self._buffers is not None:
            self._buffers.put_back()
        if self._metrics is not None:
            self._metrics.put_back()
        if self._running is not None:
            _add_running(self._params, self._running, add=finished)

    @torch.no_grad()
    def compare(self, step: StepContext) -> None:
        """Note lengths of the first and the final gradient, and their cosine."""
        if not self._first:
            return
        first, last = self._first, step.gradients()
        norms = [joint_norm(list(each.values())) for each in (first, last)]
        both = [p for p in first if p in last]
        dot = joint_dot([first[p] for p in both], [last[p] for p in both])
        metrics = step.metrics
        metrics.note("grad_norm", norms[0])
        metrics.note("final_grad_norm", norms[1])
        metrics.note("cosine", dot / (norms[0] * norms[1]))


def _own_gradients(params: list[Tensor]) -> None:
    """Move gradients out of memory that is not theirs."""
    for p in params:
        if p.grad is not None:
            p.grad = p.grad.clone()


def _add_running(
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


class LossScale:
    """Takes the scale of a `GradScaler` out of gradients, and puts it back.

    Args:
        scaler: None for no scale.
        undoes: whether it is taken out of gradients, or only of what is told of them.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None, *, undoes: bool) -> None:
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._undoes = undoes

    def plain(self, norm: Tensor) -> Tensor:
        """The length of gradients as they are now, without the scale."""
        if self._scaler is None or self._undoes:
            return norm
        return norm / self._scaler.scale(torch.ones((), device=norm.device))

    def tell(self, metrics: StepMetrics) -> None:
        """Take the scale out of lengths that were noted."""
        for name in ("grad_norm", "final_grad_norm"):
            metrics.change(name, self.plain)

    @torch.no_grad()
    def undo(self, step: StepContext) -> None:
        """Divide all gradients by the scale, without a sync."""
        self._apply(step, undo=True)

    @torch.no_grad()
    def put_back(self, step: StepContext) -> None:
        """Multiply all gradients by the scale, as the scaler expects them."""
        self._apply(step, undo=False)

    def _apply(self, step: StepContext, *, undo: bool) -> None:
        if self._scaler is None or not self._undoes:
            return  # nearly always: no need to look at gradients in every pass
        grads = list(step.gradients().values())
        if not grads:
            return
        scale = self._scaler.scale(torch.ones((), device=grads[0].device))
        torch._foreach_mul_(grads, scale.reciprocal() if undo else scale)
