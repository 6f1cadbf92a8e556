"""The objective of a network and batches of the user's own, in whatever form they are.

Shape letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import DataError, SteppeError
from steppe.integrations.causal_lm import causal_lm_objective
from steppe.integrations.outputs import logits_of
from steppe.losses import LOSSES, BatchLoss
from steppe.losses.label_smoothing import IGNORED
from steppe.measuring.modes import Mode
from steppe.objective import Objective
from steppe.registry.registry import one_line
from steppe.results import Estimate
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.tasks.loss_option import LOSS, NEXT_TOKEN, OwnLoss
from steppe_lab.training.evaluation import mean_over_samples

LABELS, TOKENS = "labels", "input_ids"
TASK_OF = {("cross_entropy", 1): "classification", ("cross_entropy", 2): NEXT_TOKEN}


class Called(nn.Module):
    """Calls a model with its inputs, by name or by place.

    Args:
        model: of several inputs, or of one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Any:
        """Outputs; the logits where the model gives others beside them."""
        if isinstance(inputs, Mapping):
            output = self.model(**inputs)
        elif isinstance(inputs, tuple | list):
            output = self.model(*inputs)
        else:
            output = self.model(inputs)
        return logits_of(output)


def objective_of(
    model: nn.Module,
    batches: Sequence[Any],
    loss: str | BatchLoss | None,
    *,
    mode: Mode = "eval",
) -> Objective:
    """Mean loss on batches of the user, tried on the first of them.

    Args:
        model: the network.
        batches: pairs (inputs, targets), with inputs a tensor, or several as a tuple or
            a mapping, which the model is called with; mappings of a tokenizer; tokens
            (B, T) alone, which are to be predicted one by one; or anything that a
            loss of (model, batch) takes.
        loss: from `read_loss`; None for cross-entropy of targets that are whole
            numbers, squared error of others, and the next token where there are none.
        mode: of the network.

    Raises:
        DataError: batches that this loss cannot take, or that say too little.
        SettingError: a loss that averages over samples, or no network to measure.
    """
    objective = _objective(model, list(map(_alone, batches)), loss, mode)
    try:
        with objective.measuring(), torch.no_grad():
            objective.batch_values(0)
    except SteppeError:
        raise
    except Exception as error:  # code of the user
        raise DataError(
            f"the loss {objective.loss_name} failed on the first batch "
            f"({one_line(error)}); {LOSS}."
        ) from error
    return objective


def _objective(
    model: nn.Module,
    alone: Sequence[Any],
    loss: str | BatchLoss | None,
    mode: Mode,
) -> Objective:
    first = alone[0]
    if isinstance(loss, OwnLoss) and loss.takes_model:
        return Objective(model, alone, loss, mode=mode)
    if isinstance(first, Mapping) and _are_texts(first, loss):
        return causal_lm_objective(model, alone, mode=mode)
    pairs = [_pair(batch, loss) for batch in alone]
    inputs, targets = pairs[0]
    if loss is None or loss == NEXT_TOKEN:
        loss = "mse" if targets.is_floating_point() else "cross_entropy"
    plain = isinstance(inputs, Tensor) and not hasattr(model, "config")
    return Objective(model if plain else Called(model), pairs, loss, mode=mode)


def task_of(objective: Objective) -> AbstractTask | None:
    """The task that a loss by name stands for, by its targets; None for others."""
    if objective.loss_name not in LOSSES or isinstance(objective.loss, OwnLoss):
        return None
    targets = objective.batches[0][1]
    if objective.loss_name == "mse":
        return TASKS.build("regression")  # type: ignore[no-any-return]
    name = TASK_OF.get((objective.loss_name, targets.dim()))
    if name is None or targets.is_floating_point():
        return None
    return TASKS.build(name)  # type: ignore[no-any-return]


def loss_of(objective: Objective) -> Estimate:
    """Mean loss, with the error over samples where one has several classes.

    The pixels of an image are such terms of one sample, which are not independent.
    """
    named = objective.loss_name == "cross_entropy"
    if not named or isinstance(objective.loss, OwnLoss):
        return objective.value()
    counts = torch.cat([_terms(targets).cpu() for _, targets in objective.batches])
    if bool((counts == 1).all()):
        return objective.value()
    return mean_over_samples(objective.losses().cpu().double(), counts)


def _terms(targets: Tensor) -> Tensor:
    """Number of classes of each sample that count, shape (B,)."""
    if targets.is_floating_point():  # probabilities of classes along dimension 1
        return torch.full((len(targets),), targets[0, 0].numel())
    return (targets != IGNORED).reshape(len(targets), -1).sum(1)


def _alone(batch: Any) -> Any:
    """A batch of one part as that part, which loaders put into a list."""
    return batch[0] if isinstance(batch, list | tuple) and len(batch) == 1 else batch


def _are_texts(batch: Mapping[str, Any], loss: str | BatchLoss | None) -> bool:
    """Whether the tokens of a tokenizer's batch are to be predicted.

    Raises:
        DataError: labels that may be tokens, or a class for each of them.
    """
    if loss == NEXT_TOKEN:
        return True
    if loss is not None or TOKENS not in batch:
        return False
    labels = batch.get(LABELS)
    if isinstance(labels, Tensor) and labels.shape == batch[TOKENS].shape:
        raise DataError(
            f"labels of the shape of {TOKENS} may be the tokens to predict or a class "
            "for each token; say --loss next_token or --loss cross_entropy."
        )
    return labels is None


def _pair(batch: Any, loss: str | BatchLoss | None) -> tuple[Any, Tensor]:
    """Inputs and targets of a batch."""
    if isinstance(batch, Mapping) and LABELS in batch:
        return {k: v for k, v in batch.items() if k != LABELS}, batch[LABELS]
    if isinstance(batch, Tensor) and loss in (None, NEXT_TOKEN):
        if batch.dim() == 2 and not batch.is_floating_point() and batch.shape[1] > 1:
            return batch[:, :-1], batch[:, 1:]
        raise DataError(
            f"data without targets must be tokens of shape (sequences, 2 or more), got "
            f"{batch.dtype} of shape {tuple(batch.shape)}; give (inputs, targets)."
        )
    whole = isinstance(batch, tuple | list) and len(batch) == 2
    if whole and isinstance(batch[1], Tensor) and loss != NEXT_TOKEN:
        return batch[0], batch[1]
    kind = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch)
    if loss == NEXT_TOKEN:
        raise DataError(
            "--loss next_token shifts tokens itself, and takes tokens (B, T) or "
            f"batches with {TOKENS}, got {kind}; leave it out for pairs."
        )
    raise DataError(
        f"a batch must be (inputs, targets), got {kind}; give --loss a function "
        f"loss(model, batch); {LOSS}."
    )
