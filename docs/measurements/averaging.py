"""Averages against flat optimizers on the digits; prints the table of the page.

    python docs/measurements/averaging.py

As `steppe compare` by default (small_cnn, 1,000 samples, 30 epochs, SGD with learning
rate 0.05), judged on validation samples. Each cell is the error of the last epoch in
percent, the mean over the seeds and its standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steppe
from steppe.gates import After
from steppe.schedules import Constant, Cosine
from steppe_lab.datasets import DATASETS, Selection
from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.datasets.split import Split
from steppe_lab.models import MODELS
from steppe_lab.tasks import TASKS
from steppe_lab.training.evaluation import evaluate

SEEDS, EPOCHS, BATCH, LR = range(5), 30, 64, 0.05
STEPS = EPOCHS * -(-1000 // BATCH)
CLOSED = After(1.0, steps=STEPS)  # never opens: the base alone
Make = Callable[[torch.optim.Optimizer, nn.Module], Any]
FLAT: dict[str, Make] = {
    "sgd": lambda base, model: steppe.SAM(base, model=model, gate=CLOSED),
    "sam": lambda base, model: steppe.SAM(base, rho=0.1, model=model),
    "sam, last half": lambda base, model: steppe.SAM(
        base, rho=0.1, model=model, gate=After(0.5, steps=STEPS)
    ),
    "sam, last tenth": lambda base, model: steppe.SAM(
        base, rho=0.1, model=model, gate=After(0.9, steps=STEPS)
    ),
    "lpf_sgd": lambda base, model: steppe.LPFSGD(base, gamma=0.03, model=model),
    "msam": lambda base, model: steppe.MSAM(base, rho=0.3, model=model),
}


def shuffled(samples: AbstractSamples, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of every epoch, in an order that follows from the seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(samples), generator=generator).split(BATCH):
            yield samples.batch(rows)


def errors(name: str, schedule: Any, split: Split, seed: int) -> dict[str, float]:
    """Error in percent of a network and of the averages of its weights."""
    torch.manual_seed(seed)
    model = MODELS.build("small_cnn", split.in_shape, len(split.classes))
    base = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    opt = FLAT[name](base, model)
    averages = {
        "EMA 0.98": steppe.EMA(model, decay=0.98, warmup=False),
        "SWA, last quarter": steppe.SWA(model, start=STEPS * 3 // 4),
    }
    for step, (x, y) in enumerate(shuffled(split.train, seed)):
        base.param_groups[0]["lr"] = schedule(step)
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            F.cross_entropy(model(xs), ys).backward()
        opt.step()
        for average in averages.values():
            average.update()
    task = TASKS.build(split.task)

    def error() -> float:
        return 100 * evaluate(model, split.test, task).metrics["error"]

    by_average = {"none": error()}
    for label, average in averages.items():
        with average.applied():
            by_average[label] = error()
    return by_average


def row(name: str, lr: str, schedule: Any, noise: float) -> str:
    """One row of the table: without an average and with each."""
    digits = DATASETS.build("digits", data_dir=None)
    chosen = Selection(train_samples=1000, label_noise=noise, held_out="validation")
    split = chosen.apply(digits)
    by_seed = [errors(name, schedule, split, seed) for seed in SEEDS]
    cells = []
    for average in by_seed[0]:
        values = [each[average] for each in by_seed]
        error = stdev(values) / len(values) ** 0.5
        cells.append(f"{fmean(values):.1f} ± {error:.1f}")
    return f"| {noise:.0%} | {name} | {lr} | {' | '.join(cells)} |"


print("| wrong labels | optimizer | learning rate | none | EMA 0.98 | SWA |")  # noqa: T201
print("|---|---|---|---|---|---|")  # noqa: T201
for noise in (0.0, 0.2):
    for name in FLAT:
        print(row(name, "cosine", Cosine(LR, 0.0, STEPS), noise), flush=True)  # noqa: T201
    for name in ("sgd", "sam"):
        print(row(name, "constant", Constant(LR), noise), flush=True)  # noqa: T201
