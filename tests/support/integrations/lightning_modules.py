"""Modules of the Lightning tests, where processes that are spawned can find them."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import loops
from steppe.integrations.lightning import SteppeModule, step

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that Lightning imports
    from lightning.fabric import Fabric as Fabric
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch import callbacks as callbacks
    from lightning.pytorch.callbacks import Callback as Callback
    from lightning.pytorch.callbacks import ModelCheckpoint as ModelCheckpoint
    from lightning.pytorch.callbacks import (
        StochasticWeightAveraging as StochasticWeightAveraging,
    )
    from lightning.pytorch.plugins import MixedPrecision as MixedPrecision
    from lightning.pytorch.strategies import (
        SingleDeviceStrategy as SingleDeviceStrategy,
    )


class Plain(LightningModule):
    """A module as anyone writes it; counts what Lightning calls."""

    def __init__(self, make: Any, *, model: Any = None, decay: float = 1.0) -> None:
        super().__init__()
        self.model = loops.make_model() if model is None else model
        self.make, self.decay = make, decay
        self.calls: list[str] = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.model(x), y)
        self.log("loss", loss, on_step=True, on_epoch=False)
        self.calls.append("training_step")
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.calls.append("on_before_optimizer_step")

    def log(self, *args, **kwargs):
        self.calls.append("log")
        super().log(*args, **kwargs)

    def configure_optimizers(self):
        opt = self.make(self.model)
        decay = torch.optim.lr_scheduler.ExponentialLR(opt, self.decay)
        return [opt], [{"scheduler": decay, "interval": "step"}]


class Flat(SteppeModule, Plain):
    pass


class FlatOfItsRank(Flat):
    """Loads every second batch, from the one of its rank on."""

    def train_dataloader(self):
        mine = list(loops.batches(8))[self.trainer.global_rank :: 2]
        return DataLoader(mine, batch_size=None)


class Brief(Plain):
    """Its training_step takes no batch_idx, and returns a dict."""

    def training_step(self, batch):
        return {"loss": super().training_step(batch, 0)}


class FlatBrief(SteppeModule, Brief):
    pass


class Manual(Plain):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        opt = self.optimizers(use_pl_optimizer=False)
        for _ in opt.passes():
            x, y = opt.take(*batch)
            self.manual_backward(F.cross_entropy(self.model(x), y))
        step(self.optimizers())
        self.lr_schedulers().step()


class NaiveManual(Manual):
    """Steps as other optimizers do."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.manual_backward(F.cross_entropy(self.model(x), y))
        self.optimizers().step()


def fit(module: LightningModule, batches: Any, folder: Any, **more: Any) -> Trainer:
    """Train quietly, on batches or on what the module itself loads (None)."""
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    settings = {"accelerator": "cpu", "max_epochs": 1, **quiet, **more}
    checkpoint = settings.pop("ckpt_path", None)
    held_out = settings.pop("val_batches", None)
    trainer = Trainer(default_root_dir=folder, **settings)
    trainer.fit(module, _loader(batches), _loader(held_out), ckpt_path=checkpoint)
    return trainer


def _loader(batches: Any) -> DataLoader | None:
    ready = batches is None or isinstance(batches, DataLoader)
    return batches if ready else DataLoader(batches, batch_size=None)


class SearchOfRates(callbacks.LearningRateFinder):
    """Tries learning rates out before the training, and leaves the module's own."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.lr = 0.1  # Lightning asks for it, used or not
        super().on_fit_start(trainer, pl_module)


class Watching(getattr(callbacks, "EMAWeightAveraging", callbacks.Callback)):
    """Keeps an average beside the training, and leaves the trained weights in place."""

    def on_train_end(self, *_: Any) -> None:
        return None
