"""The loop of the Accelerate tests; as a script, one of two processes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import loops
from integrations import harness
from steppe.integrations.accelerate import Window

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that accelerate imports
    from accelerate import Accelerator


class Training:
    """A model, an optimizer and a schedule, prepared by an accelerator."""

    def __init__(
        self,
        make: harness.Make,
        *,
        window: int = 1,
        decay: float = 1.0,
        model: nn.Module | None = None,
        scaler: torch.amp.GradScaler | None = None,
        **settings: Any,
    ) -> None:
        settings = {"gradient_accumulation_steps": window, "cpu": True, **settings}
        self.accelerator = Accelerator(**settings)
        self.accelerator.scaler = scaler  # which accelerate itself makes on a GPU only
        self.net = loops.make_model() if model is None else model
        opt = make(self.net)
        schedule = torch.optim.lr_scheduler.ExponentialLR(opt, decay)
        prepared = self.accelerator.prepare(self.net, opt, schedule)
        self.model, self.optimizer, self.schedule = prepared

    def run(
        self,
        batches: list[tuple[Tensor, Tensor]],
        *,
        clip: float | None = None,
        rows: int = loops.ROWS,
    ) -> Training:
        """Train on batches, in their order."""
        accelerator = self.accelerator
        data = TensorDataset(*(torch.cat(c) for c in zip(*batches, strict=True)))
        loader = accelerator.prepare(DataLoader(data, batch_size=rows))
        window = Window(accelerator, self.model, self.optimizer)
        for x, y in loader:
            with accelerator.accumulate(self.model):
                for xs, ys in window.passes(x, y):
                    accelerator.backward(F.cross_entropy(self.model(xs), ys))
                if accelerator.sync_gradients and clip is not None:
                    accelerator.clip_grad_norm_(self.model.parameters(), clip)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
        return self

    def run_closures(
        self, batches: list[tuple[Tensor, Tensor]], *, rows: int = loops.ROWS
    ) -> Training:
        """Train by a closure for every micro-batch, as for any optimizer."""
        for x, y in [
            micro
            for xs, ys in batches
            for micro in zip(xs.split(rows), ys.split(rows), strict=True)
        ]:
            with self.accelerator.accumulate(self.model):

                def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                    xs, ys = self.optimizer.optimizer.take(x, y)
                    loss = F.cross_entropy(self.model(xs), ys)
                    self.accelerator.backward(loss)
                    return loss

                self.optimizer.step(closure)
        return self


def main(name: str, window: str, folder: str) -> None:
    """Train in one of two processes; each saves its weights."""
    training = Training(getattr(harness, name), window=int(window))
    training.run(list(loops.batches(8)))
    path = Path(folder) / f"rank{training.accelerator.process_index}.pt"
    torch.save(training.net.state_dict(), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
