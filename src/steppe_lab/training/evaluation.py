"""How well a network does on samples it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steppe_lab.datasets.samples import AbstractSamples, on_device
from steppe_lab.tasks import AbstractTask


@dataclass(frozen=True)
class Score:
    """Mean loss and metrics of a network on some samples."""

    loss: float
    metrics: Mapping[str, float]  # by name
    samples: int
    wrong: tuple[int, ...] | None  # positions of 1 in a headline that is a share

    def row(self, part: str) -> dict[str, float]:
        """Loss and metrics by name, after "train_" or "test_"."""
        named = {"loss": self.loss, **self.metrics}
        return {f"{part}_{name}": value for name, value in named.items()}


AVERAGED = "average_"  # before the names of an average's scores


def scores_of_trained(row: Mapping[str, float]) -> dict[str, float]:
    """Scores of the network of a training that ends with this row.

    These are the average's where one holds something, under the names of the others.
    """
    own = {name: v for name, v in row.items() if not name.startswith(AVERAGED)}
    return own | {
        name.removeprefix(AVERAGED): value
        for name, value in row.items()
        if name.startswith(AVERAGED)
    }


@torch.no_grad()
def evaluate(
    model: nn.Module,
    samples: AbstractSamples,
    task: AbstractTask,
    *,
    batch_size: int = 256,
) -> Score:
    """Score a network in eval mode; its modes are put back.

    Args:
        model: gives outputs of the kind that the task is about.
        samples: N of them.
        task: gives the loss and the metrics.
        batch_size: samples at a time; the score does not depend on it.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    loss, terms = 0.0, 0
    values: dict[str, list[Tensor]] = {}
    model.eval()
    try:
        for start in range(0, len(samples), batch_size):
            rows = slice(start, start + batch_size)
            inputs, targets = on_device(samples.batch(rows), device)
            outputs = model(inputs)
            loss += task.loss(outputs, targets, reduction="sum").double().item()
            terms += task.terms(targets)
            for name, each in task.metrics(outputs, targets).items():
                values.setdefault(name, []).append(each.cpu())
    finally:
        for module, mode in modes:
            module.training = mode
    joined = {name: torch.cat(parts) for name, parts in values.items()}
    means = {name: float(each.double().mean()) for name, each in joined.items()}
    wrong = None
    # Samples are independent, positions of one sequence are not.
    if task.headline.share and len(joined[task.headline.name]) == len(samples):
        wrong = tuple(joined[task.headline.name].nonzero().flatten().tolist())
    return Score(loss / terms, means, len(samples), wrong)
