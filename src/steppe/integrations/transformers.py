"""Hugging Face Transformers: `Trainer` with the passes of a steppe optimizer.

::

    class FlatTrainer(SteppeTrainer, Trainer):
        pass


    opt = steppe.SAM(torch.optim.AdamW(model.parameters(), lr=5e-5), rho=0.05)
    FlatTrainer(model=model, args=args, ..., optimizers=(opt, None)).train()

or, around the optimizer that the arguments ask for, `create_optimizer`::

    class FlatTrainer(SteppeTrainer, Trainer):
        def create_optimizer(self, *args, **kwargs):
            if self.optimizer is None:
                base = super().create_optimizer(*args, **kwargs)
                self.optimizer = steppe.SAM(base, rho=0.05)
            return self.optimizer
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import UsageError
from steppe.integrations.accelerate import synchronised, weighted
from steppe.integrations.window import pieces, steppe_optimizer
from steppe.stepping.driver import AbstractOptimizer

MicroBatch = tuple[dict[str, Any], Any]  # inputs, and num_items_in_batch


class AbstractSteppeTrainer:
    """Knows which optimizer a Trainer trains with, and who chose it."""

    optimizer: Any  # these two are the Trainer's
    accelerator: Any
    _by_default = False

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As in the Trainer, which makes one where none was given."""
        self._by_default = self.optimizer is None
        trainer: Any = super()
        return trainer.create_optimizer(*args, **kwargs)

    def _steppe(self) -> AbstractOptimizer | None:
        """The steppe optimizer; warns once if there is none and nobody said so."""
        opt = steppe_optimizer(self.optimizer)
        if opt is None and self._by_default:
            inner = getattr(self.optimizer, "optimizer", self.optimizer)
            warnings.warn(
                f"this trainer made {type(inner).__name__} by itself and takes its "
                "ordinary steps; give it optimizers=(steppe.SAM(base), None), or wrap "
                "its own optimizer in create_optimizer.",
                stacklevel=3,
            )
        self._by_default = False
        return opt


class SteppeTrainer(AbstractSteppeTrainer):
    """Makes a `transformers.Trainer` run all passes; write it before the trainer.

    With gradient accumulation every pass is over all micro-batches of the step and all
    processes: the step is that of the large batch. The loss in the logs is that of the
    first pass. Other optimizers are left alone; one that the trainer has chosen by
    itself is warned of.
    """

    _window: tuple[MicroBatch, ...] = ()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Forget micro-batches of a training that was interrupted; train."""
        self._window = ()
        trainer: Any = super()
        return trainer.train(*args, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> Tensor:
        """Keep the micro-batch; with the last one, run the passes over all of them."""
        trainer: Any = super()
        opt = self._steppe()
        if opt is None:
            loss: Tensor = trainer.training_step(model, inputs, num_items_in_batch)
            return loss
        window = (*self._window, (dict(inputs), num_items_in_batch))
        if not self.accelerator.sync_gradients:
            self._window = window
            return torch.zeros((), device=self.accelerator.device)
        self._window = ()
        opt.train()  # the Trainer does so in each pass, where weights may be perturbed
        return _run(trainer, self.accelerator, model, opt, opt.passes(), window)


class MicroBatchSteppeTrainer(AbstractSteppeTrainer):
    """As `SteppeTrainer`, but every micro-batch has a perturbation of its own.

    That is m-sharpness, with m the size of a micro-batch; the gradients of all
    micro-batches of a step are added. For one process only.
    """

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> Tensor:
        """Run the passes on the micro-batch, and add to the gradient there is.

        Raises:
            UsageError: in several processes, which would step apart.
        """
        trainer: Any = super()
        opt = self._steppe()
        if opt is None:
            loss: Tensor = trainer.training_step(model, inputs, num_items_in_batch)
            return loss
        if self.accelerator.num_processes > 1:
            raise UsageError(
                "a perturbation per micro-batch needs one process, got "
                f"{self.accelerator.num_processes}; use SteppeTrainer instead."
            )
        window = ((dict(inputs), num_items_in_batch),)
        opt.train()
        loop = opt.passes(accumulate=True)
        return _run(trainer, self.accelerator, model, opt, loop, window)


def _run(
    trainer: Any,
    accelerator: Any,
    model: nn.Module,
    opt: Any,
    loop: Iterable[int],
    window: tuple[MicroBatch, ...],
) -> Tensor:
    """All passes over the micro-batches; gives the loss of the first one."""
    losses = []
    for index in loop:
        parts = pieces(opt, [inputs for inputs, _ in window])
        for piece in parts:
            items = window[piece.index][1]
            if items is not None and piece.part != 1.0:
                items = items * piece.part
            with (
                synchronised(accelerator, model, piece is parts[-1]),
                weighted(accelerator, piece.weight),
            ):
                loss = trainer.training_step(model, dict(piece.batch), items)
            if index == 0:
                losses.append(loss * piece.weight)
    return torch.stack(losses).sum()
