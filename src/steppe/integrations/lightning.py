"""PyTorch Lightning: automatic and manual optimization with all passes.

Automatic optimization, with a module that is written as ever::

    class Flat(SteppeModule, MyModule):
        pass

Manual optimization needs no class, only this module's `step`::

    def training_step(self, batch, batch_idx):
        opt = self.optimizers(use_pl_optimizer=False)
        for _ in opt.passes():
            self.manual_backward(self.loss(*opt.take(*batch)))
        step(self.optimizers())

Averages of the weights along either::

    class Average(AverageCallback, Callback):
        pass

    Trainer(callbacks=[Average(partial(steppe.EMA, decay=0.999))])

Both packages of Lightning (`lightning` and `pytorch_lightning`) will do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.integrations.lightning_averages import AverageCallback as AverageCallback
from steppe.integrations.window import Piece, pieces, steppe_optimizer
from steppe.parameters import MetricSnapshot, metrics_in
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.wrapper import Shown


def step(optimizer: Any) -> None:
    """Take the step of finished passes in manual optimization, and count it.

    Of an optimizer of `steppe.compat` it is the step after `finish()`, or all of it
    after `set_closure()`.

    Args:
        optimizer: what `self.optimizers()` gives.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, Shown):
        raise UsageError(
            "step() takes the steps of steppe optimizers; call optimizer.step() of "
            "any other."
        )
    with _stepping_once(inner, without_loss=True):
        optimizer.step()


class SteppeModule:
    """Makes a `LightningModule` run all passes; write it before a finished module.

    With `accumulate_grad_batches` every pass is over all micro-batches of the step and
    all processes: the step is that of the large batch. Micro-batches are evaluated with
    the last of them; until then their loss is NaN in `on_train_batch_end`. Lightning
    clips, unscales and calls `on_before_optimizer_step` once per step, and
    `self.log` writes what it is given in the first pass. Other optimizers, and modules
    with manual optimization, are left alone.

    Raises:
        UsageError: where `training_step` is in the same class, or in one before.
    """

    automatic_optimization: bool  # these three are the LightningModule's
    trainer: Any
    device: torch.device
    _window: tuple[tuple[Any, int], ...] = ()  # batches, and their numbers
    _piece: Piece | None = None  # what training_step is to evaluate
    _silent = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.training_step is not SteppeModule.training_step:
            raise UsageError(
                f"training_step of {cls.__name__} hides that of SteppeModule; finish "
                "the module first and write class Flat(SteppeModule, MyModule)."
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Keep the micro-batch; forget those of a window that was cut short."""
        module: Any = super()
        answer: int | None = module.on_train_batch_start(batch, batch_idx)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._window = ()  # where Lightning clears the gradients
        if answer != -1 and self._steppe() is not None:
            self._window = (*self._window, (batch, batch_idx))
        return answer

    def training_step(self, *args: Any) -> Any:
        """Evaluate the batches of the present pass; outside of passes do nothing."""
        module: Any = super()
        training_step = module.training_step
        if self._steppe() is None:
            return training_step(*_accepted(training_step, args))
        piece = self._piece
        if piece is None:
            # Lightning calls this once for every micro-batch, before the passes, which
            # evaluate the whole window with the last of them.
            return torch.full((), torch.nan, device=self.device, requires_grad=True)
        args = (piece.batch, self._window[piece.index][1])
        return _weighted(training_step(*_accepted(training_step, args)), piece.weight)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Run the passes, then let Lightning clip and step."""
        module: Any = super()
        opt = steppe_optimizer(optimizer)
        closure: Any = optimizer_closure
        if opt is not None and self._only_refreshes():
            closure()  # Lightning would step once more, with gradients of before
            return
        if opt is None or self._steppe() is None:
            module.optimizer_step(epoch, batch_idx, optimizer, closure)
            return
        strategy = self.trainer.strategy
        if strategy.handles_gradient_accumulation:
            raise UsageError(
                "SteppeModule needs a strategy that leaves accumulation to Lightning, "
                f"got {type(strategy).__name__}; use DDPStrategy, for example."
            )
        if not self._window:
            raise UsageError(
                "no micro-batch was kept for the passes; call "
                "super().on_train_batch_start(batch, batch_idx) where you override it."
            )
        passes = partial(self._passes, opt, closure)
        try:
            with _stepping_once(opt, without_loss=False):
                module.optimizer_step(epoch, batch_idx, optimizer, passes)
        finally:
            self._window = ()  # holds no memory until the next batch

    def log(self, *args: Any, **kwargs: Any) -> None:
        """As in Lightning, in the first pass of a step."""
        if not self._silent:
            module: Any = super()
            module.log(*args, **kwargs)

    def _steppe(self) -> AbstractOptimizer | None:
        if not self.automatic_optimization or self._only_refreshes():
            return None
        try:
            optimizers = self.trainer.optimizers
        except RuntimeError:  # no Trainer: somebody calls training_step by hand
            return None
        return steppe_optimizer(optimizers[0]) if len(optimizers) == 1 else None

    def _only_refreshes(self) -> bool:
        """Whether an averaging callback reads the data for running statistics alone."""
        try:
            loop = self.trainer.fit_loop
        except RuntimeError:  # no Trainer
            return False
        return getattr(loop, "_skip_backward", False)

    def _passes(self, opt: AbstractOptimizer, closure: Callable[[], Any]) -> Any:
        """Run all passes; Lightning's closure, with its hooks, does the first one.

        Returns:
            The loss of the last micro-batch; None, without any gradient, where
            training_step gave a loss for none of them.
        """
        module: Any = self
        loss, metrics = None, MetricSnapshot(())
        try:
            for index in opt.passes():
                self._silent = index > 0
                parts = pieces(opt, [batch for batch, _ in self._window])
                for self._piece in parts:
                    with self._synchronised(self._piece is parts[-1]):
                        # Lightning's closure also runs its hooks and logs, which are to
                        # run once in a step, whatever number of passes it has.
                        if index == 0:
                            result = closure()
                            loss = loss if result is None else result
                        else:
                            self._replay(opt)
                if loss is None:
                    break
                seen = sum(piece.part for piece in parts)  # micro-batches
                # Metrics of torchmetrics count the samples of the first pass alone, if
                # that saw all of them; they are put back to this state at the end.
                if index == 0 and seen == len(self._window):
                    metrics = MetricSnapshot(metrics_in(module))
        finally:
            self._piece, self._silent = None, False
            metrics.put_back()
        return loss

    def _replay(self, opt: AbstractOptimizer) -> None:
        strategy = self.trainer.strategy
        output = strategy.training_step(*self._window[-1])
        loss = output["loss"] if isinstance(output, dict) else output
        if loss is not None:
            strategy.backward(loss / self.trainer.accumulate_grad_batches, opt)

    def _synchronised(self, wanted: bool) -> Any:
        """Reduce gradients between processes in here, or only add them up."""
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        return nullcontext() if wanted or block is None else block()


@contextmanager
def _stepping_once(opt: Shown, *, without_loss: bool) -> Iterator[None]:
    """Let `opt.step(closure)` run the closure once, then step with its gradient.

    Lightning calls hooks and clips inside of the closure, so that in the place of a
    pass they would run once per pass.

    Args:
        opt: takes the step.
        without_loss: step where the closure returns None too, as it always does in
            manual optimization; in automatic there is no gradient then.
    """
    own, patched = opt.step, vars(opt).get("step")  # LR schedulers patch it too

    def once(closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        if closure is None or without_loss or loss is not None:
            own()
        return loss

    opt.step = once  # type: ignore[method-assign]
    try:
        yield
    finally:
        if patched is None:
            del opt.step
        else:
            opt.step = patched  # type: ignore[method-assign]


def _accepted(training_step: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """As many of batch and batch_idx as a user's training_step takes."""
    parameters = inspect.signature(training_step).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return args
    by_place = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    return args[: sum(p.kind in by_place for p in parameters)]


def _weighted(output: Any, weight: float) -> Any:
    """Result of a training_step, with its loss multiplied by a weight."""
    if weight == 1.0 or output is None:
        return output
    if isinstance(output, Tensor):
        return output * weight
    return {**output, "loss": output["loss"] * weight}
