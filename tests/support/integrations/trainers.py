"""Models and trainers of the Hugging Face tests; as a script, one of two processes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import SequentialSampler

import loops
import steppe
from integrations import harness
from steppe.integrations.transformers import MicroBatchSteppeTrainer, SteppeTrainer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that transformers imports
    from transformers import Trainer, TrainingArguments


class Classifier(nn.Module):
    """The mean loss of a micro-batch, which the trainer divides by their number."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class CountingClassifier(Classifier):
    """The summed loss, divided by the number of labels of the whole step."""

    accepts_loss_kwargs = True

    def forward(
        self, x: Tensor, labels: Tensor, num_items_in_batch: Any = None
    ) -> dict[str, Tensor]:
        logits = self.net(x)
        loss = F.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch
        return {"loss": loss, "logits": logits}


class FlatTrainer(SteppeTrainer, Trainer):
    pass


class WrappingTrainer(FlatTrainer):
    """Wraps the optimizer that the arguments ask for."""

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        if self.optimizer is None:
            base = super().create_optimizer(*args, **kwargs)
            self.optimizer = steppe.SAM(base, rho=0.3)
        return self.optimizer


class MicroFlatTrainer(MicroBatchSteppeTrainer, Trainer):
    pass


def fit(
    model: nn.Module,
    make: harness.Make | None,
    batches: list[tuple[Tensor, Tensor]],
    folder: Path,
    *,
    trainer: type[Trainer] = FlatTrainer,
    inputs: str = "x",
    decay: float = 1.0,
    resume: str | None = None,
    train: bool = True,
    callbacks: Any = None,
    **more: Any,
) -> Trainer:
    """Train quietly, in the order of the batches, without clipping."""
    settings = {
        "per_device_train_batch_size": loops.ROWS,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "max_grad_norm": 0.0,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        **more,
    }
    if not hasattr(TrainingArguments, "train_sampling_strategy"):
        settings.pop("train_sampling_strategy")
    opt = schedule = None
    if make is not None:
        opt = make(model)
        schedule = torch.optim.lr_scheduler.ExponentialLR(opt, decay)
    rows = [
        {inputs: row, "labels": label}
        for x, y in batches
        for row, label in zip(x, y, strict=True)
    ]
    made = trainer(
        model=model,
        args=TrainingArguments(str(folder), **settings),
        train_dataset=rows,
        eval_dataset=rows,
        optimizers=(opt, schedule),
        callbacks=callbacks,
    )
    if "train_sampling_strategy" not in settings:  # in the oldest version
        made._get_train_sampler = lambda *_: SequentialSampler(rows)
    if train:
        made.train(resume_from_checkpoint=resume)
    return made


def main(name: str, window: str, folder: str) -> None:
    """Train in one of two processes; the first one saves its weights."""
    model = Classifier(loops.make_model())
    batches = list(loops.batches(8))
    more = {"gradient_accumulation_steps": int(window)}
    trainer = fit(model, getattr(harness, name), batches, Path(folder), **more)
    path = Path(folder) / f"rank{trainer.args.process_index}.pt"
    torch.save(model.net.state_dict(), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
