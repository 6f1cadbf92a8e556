"""Running statistics of all evaluated samples at the weights of a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from steppe.errors import DataError
from steppe.measuring.batch_norm import reestimate
from steppe.measuring.evaluation import WithoutGraph
from steppe.objective import Objective
from steppe.results import Cost
from steppe.samples import gathered, joinable, rows_of

TOO_FEW = "more than 1 value per channel"  # as torch says it


def refit(objective: Objective, model: nn.Module) -> None:
    """Set the running statistics of a model to those of the data of its objective.

    Raises:
        DataError: a batch of one value per channel, which has no variance.
    """
    without_graph = WithoutGraph(model)

    def forward(_model: nn.Module, batch: Any) -> None:
        without_graph(lambda: objective.losses_on(batch))

    try:
        if reestimate(model, with_two_rows(objective.batches), forward=forward):
            objective.cost += Cost(forwards=1)
    except (DataError, ValueError) as error:
        if TOO_FEW not in str(error):
            raise
        raise DataError(
            "the running statistics of batch norm cannot be re-estimated on a batch of "
            "one sample; give more samples, or batch_norm='interpolate'."
        ) from error


def with_two_rows(batches: Sequence[Any]) -> Sequence[Any]:
    """The batches, of which a last one of a single row stands in the one before it.

    Torch refuses the statistics of a single value.
    """
    if len(batches) < 2 or rows_of(batches[-1]) != 1 or not joinable(batches[-2:]):
        return batches
    last = [*batches[-2:]]
    ends = torch.tensor([rows_of(batch) or 0 for batch in last], device="cpu").cumsum(0)
    joined = gathered(last, torch.arange(int(ends[-1]), device="cpu"), ends)
    return [*batches[:-2], joined]
