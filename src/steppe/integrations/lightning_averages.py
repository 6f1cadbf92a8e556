"""PyTorch Lightning: an average of the weights kept along a training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from steppe.averaging.abstract import AbstractAverage
from steppe.errors import SettingError, UsageError, check_callable
from steppe.measuring.batch_norm import Forward, layers_that_train, reestimate

LIGHTNING = ("lightning", "pytorch_lightning")


class AverageCallback:
    """Makes a Lightning `Callback` that averages weights; write it before `Callback`.

    The average is made when the training begins, sees the weights after every optimizer
    step or epoch, and is saved with checkpoints, whose own weights are the trained
    ones. Where the average leaves running statistics to the model they are
    re-estimated on the training data, each time that the averaged weights are used;
    that draws no random numbers of the training. For one optimizer.

    Args:
        make: builds the average of a module, such as `steppe.EMA` or
            `functools.partial(steppe.SWA, start=100)`. Settings in steps count updates.
        every: when to update, after each optimizer "step" or training "epoch".
        final: weights of the module after `fit()`, the "average" or the "trained" ones;
            these too as long as nothing has gone into the average.
        evaluate: whether validation during the training is of the averaged weights, or
            of the trained ones; of several averages one can be validated.
        monitor: name of the logged validation loss that `SWAD` chooses by, with
            evaluate=False.
        reestimate: False leaves the running statistics as they are.
        forward: runs the module on a batch of the training data, to re-estimate; by
            default its own `forward` on the inputs.
        name: tells this callback's state from that of another one in checkpoints.

    Raises:
        SettingError: a value that is none of those above.
    """

    average: AbstractAverage | None = None

    def __init__(
        self,
        make: Callable[[nn.Module], AbstractAverage],
        *,
        every: Literal["step", "epoch"] = "step",
        final: Literal["average", "trained"] = "average",
        evaluate: bool = True,
        monitor: str | None = None,
        reestimate: bool = True,
        forward: Forward | None = None,
        name: str = "average",
    ) -> None:
        check_callable("make", make, "builds an average of a module")
        if every not in ("step", "epoch"):
            raise SettingError(f"every must be 'step' or 'epoch', got {every!r}.")
        if final not in ("average", "trained"):
            raise SettingError(f"final must be 'average' or 'trained', got {final!r}.")
        self.make, self.every, self.final = make, every, final
        self.evaluate, self.monitor = evaluate, monitor
        self.reestimate, self.forward, self.name = reestimate, forward, name
        self._applied = ExitStack()  # the averaged weights, while they are validated
        self._saved: Mapping[str, Any] | None = None  # read before the average is made
        self._last: dict[str, Tensor] | None = None  # weights for the end of fit()
        self._active = False  # within fit()
        self._epoch = -1  # the last one that the average has seen

    @property
    def state_key(self) -> str:
        """Key of this callback in checkpoints."""
        return f"{type(self).__qualname__}[{self.name}]"

    def state_dict(self) -> dict[str, Any]:
        """State of the average."""
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the average of a checkpoint."""
        self._saved = state_dict or None
        if self._active:  # strategies that restore after their setup
            self._restore()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the average of the module, or continue the saved one."""
        average = self.make(pl_module)
        self._check(average, trainer)
        self.average, self._active, self._epoch = average, True, -1
        self._check_forward(pl_module)
        self._restore()
        if self.every == "step":
            average.attach(trainer.optimizers[0])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse data that cannot be read twice at a time."""
        kept = getattr(trainer.train_dataloader, "persistent_workers", False)
        if kept and self._reads_data(pl_module):
            raise SettingError(
                "running statistics are re-estimated while the training data is being "
                "read, which persistent_workers=True does not allow; leave it out, or "
                "give reestimate=False."
            )

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Update with the last batch of an epoch, before it is validated."""
        if trainer.is_last_batch:
            self._end_epoch(trainer)

    def on_train_epoch_end(self, trainer: Any, _: Any) -> None:
        """Update where a hook has ended the epoch early."""
        self._end_epoch(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Validate the averaged weights."""
        ready = self._active and self.average is not None and self.average.count > 0
        if ready and not trainer.sanity_checking and self.evaluate:
            self._applied.enter_context(self._averaged(trainer, pl_module))

    def on_validation_end(self, trainer: Any, _: Any) -> None:
        """Train on with the trained weights; tell the average the validation loss."""
        self._applied.close()
        if self.monitor is None or not self._active or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UsageError(
                f"monitor='{self.monitor}' was not logged in validation; call "
                f"self.log('{self.monitor}', loss) in validation_step."
            )
        average: Any = self.average
        average.validate(float(trainer.callback_metrics[self.monitor]))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Compute the weights for the end; a checkpoint may still be written."""
        if self.final == "average" and self.average is not None and self.average.count:
            with self._averaged(trainer, pl_module):
                state = pl_module.state_dict()
                self._last = {name: value.clone() for name, value in state.items()}

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the final weights in the module."""
        if self._last is not None:
            pl_module.load_state_dict(self._last)
        self._leave()

    def on_exception(self, *_: Any) -> None:
        """Leave the trained weights in the module."""
        self._leave()

    def _leave(self) -> None:
        self._applied.close()
        self._active, self._last = False, None
        if self.average is not None:
            self.average.detach()

    def _restore(self) -> None:
        if self._saved is not None and self.average is not None:
            self.average.load_state_dict(self._saved)
        self._saved = None

    def _end_epoch(self, trainer: Any) -> None:
        if self.every == "epoch" and trainer.current_epoch != self._epoch:
            assert self.average is not None
            self._epoch = trainer.current_epoch
            self.average.update()

    def _check(self, average: Any, trainer: Any) -> None:
        if not isinstance(average, AbstractAverage):
            raise SettingError(
                "make must build an average such as steppe.EMA, got "
                f"{type(average).__name__}."
            )
        if len(trainer.optimizers) != 1:
            raise UsageError(
                f"an average needs one optimizer, got {len(trainer.optimizers)}; call "
                "update() of an average of your own where the step is complete."
            )
        chooses = hasattr(average, "validate")
        if chooses != (self.monitor is not None) or (chooses and self.evaluate):
            raise SettingError(
                "monitor, with evaluate=False, names the loss of the trained weights "
                f"for an average that chooses by it; got monitor={self.monitor!r} and "
                f"evaluate={self.evaluate} with {type(average).__name__}."
            )
        ours = [each for each in trainer.callbacks if isinstance(each, AverageCallback)]
        for setting, value in (("evaluate", True), ("final", "average")):
            if sum(getattr(each, setting) == value for each in ours) > 1:
                raise SettingError(
                    f"{setting} must be {value!r} for one of several averages; give "
                    "the others evaluate=False and final='trained'."
                )

    def _check_forward(self, module: Any) -> None:
        theirs = type(module).forward.__module__.startswith(LIGHTNING)
        if theirs and self.forward is None and self._reads_data(module):
            raise SettingError(
                f"{type(module).__name__} has no forward() to re-estimate running "
                "statistics with; write one, or give forward=, a function of a module "
                "and a batch, or reestimate=False."
            )

    def _reads_data(self, module: nn.Module) -> bool:
        copied = self.average is not None and self.average.buffers == "copy"
        return self.reestimate and copied and bool(layers_that_train(module))

    @contextmanager
    def _averaged(self, trainer: Any, module: nn.Module) -> Iterator[None]:
        assert self.average is not None
        with self.average.applied():
            if self._reads_data(module):
                loader = trainer.train_dataloader
                with _same_draws(loader):
                    reestimate(module, loader, forward=self.forward)
            yield


@contextmanager
def _same_draws(loader: Any) -> Iterator[None]:
    """Let the reading of data take no random numbers of the training.

    Those are of torch, Python and numpy, and of the generators of loader and samplers.
    """
    places = (getattr(loader, n, None) for n in ("sampler", "batch_sampler"))
    sources = {getattr(place, "generator", None) for place in (loader, *places)}
    states = [(source, source.get_state()) for source in sources if source is not None]
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for source, state in states:
            source.set_state(state)
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002
