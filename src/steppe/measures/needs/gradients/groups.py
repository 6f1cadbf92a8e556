"""The mean loss on groups of samples, and its gradients.

Sharpness of a group of m samples is more than that of all data: m-sharpness (Foret et
al., 2021, arXiv:2010.01412, section 4.1) is its mean over groups.

Shape letters: P parameter tensors, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from steppe.batches import variance_by_batch
from steppe.errors import DataError, UsageError
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.normalised_logits import with_normalised_logits
from steppe.objective import Objective
from steppe.parameters import restored
from steppe.results import Cost
from steppe.samples import is_row_by_row, regrouped, row_count
from steppe.vectors import joint_norm


class Grouped(NamedTuple):
    """An objective whose batches are groups of samples."""

    objective: Objective
    by_rows: bool  # else the groups are the batches of the data

    @property
    def details(self) -> dict[str, Any]:
        """The groups in words, for an estimate."""
        return {"groups": "samples" if self.by_rows else "batches of the data"}


@dataclass(frozen=True)
class Groups(Need[Grouped]):
    """The objective with its samples, in their order, in batches of some of them.

    Where the losses of a batch are not those of its rows each for itself, as with batch
    statistics, or where a batch has no rows, the groups are the batches of the data.

    Args:
        samples: of a group; the last one may be smaller.
        logit_normalised: take the loss of normalised logits instead.
    """

    kind: ClassVar[str] = "groups of samples"

    samples: int
    logit_normalised: bool = False

    def serve(self, measurement: Measurement) -> Grouped:
        """Look whether samples can be regrouped, and do it."""
        objective = measurement.objective
        objective.check_repeatable()
        objective.count()  # refuses data without a loss term
        if self.logit_normalised:
            objective = with_normalised_logits(objective)
        groups = _by_rows(objective, self.samples)
        return Grouped(groups or objective, groups is not None)


class GroupLoss(NamedTuple):
    """The mean loss of a group, and its gradient."""

    value: Tensor  # shape (), float64, with the penalty
    gradient: list[Tensor]  # P tensors
    terms: int


@dataclass(frozen=True)
class GroupGradientNorms(Need[list[tuple[float, float, int]]]):
    """Norms of the gradient of each group: ||g||, || |w| g ||, and its loss terms.

    Args:
        samples: of a group.
    """

    kind: ClassVar[str] = "gradients of groups"

    samples: int

    def serve(self, measurement: Measurement) -> list[tuple[float, float, int]]:
        """Differentiate each group once."""
        groups = measurement.of(Groups(self.samples)).objective
        norms = []
        with moving(groups, measurement.objective) as centre:
            sizes = [c.abs() for c in centre]
            for index in range(len(groups.batches)):
                loss = loss_of_group(groups, index)
                if loss.terms:
                    scaled = list(torch._foreach_mul(loss.gradient, sizes))
                    lengths = (
                        float(joint_norm(loss.gradient)),
                        float(joint_norm(scaled)),
                    )
                    norms.append((*lengths, loss.terms))
        measurement.objective.cost += Cost(gradients=1)
        return norms


@contextmanager
def moving(groups: Objective, objective: Objective) -> Iterator[list[Tensor]]:
    """Measure groups at other weights, which come back; gives a copy of the weights.

    Args:
        groups: whose network moves.
        objective: that they were made of, whose cost has passes for statistics.
    """
    before = groups.cost
    with groups.measuring(), restored(groups.params) as centre:
        yield centre
    if groups is not objective:
        objective.cost += groups.cost - before


def loss_of_group(groups: Objective, index: int) -> GroupLoss:
    """The loss of one batch and its gradient; inside `measuring()`.

    Args:
        groups: whose batches are the groups.
        index: of the batch.
    """
    groups.renew_statistics()  # the weights may have moved
    with torch.enable_grad():
        losses = groups.batch_losses(index)
        terms = losses.numel()
        total = losses.double().sum() / max(terms, 1)
        gradient = [torch.zeros_like(p) for p in groups.params]
        if losses.requires_grad:
            slopes = torch.autograd.grad(total, groups.params, materialize_grads=True)
            gradient = [g.detach() for g in slopes]
    if groups.penalty is not None:
        for g, p in zip(gradient, groups.params, strict=True):
            g.add_(p.detach(), alpha=groups.penalty.curvature(p))
    return GroupLoss(total.detach() + groups.penalty_value(), gradient, terms)


def loss_of_all(objective: Objective) -> GroupLoss:
    """The mean loss over all batches and its gradient; inside `measuring()`."""
    parts = []
    for index in range(len(objective.batches)):
        parts.append(loss_of_group(objective, index))
        if len(parts) == 2:
            parts = [_together(*parts)]
    return parts[0]


def _together(one: GroupLoss, other: GroupLoss) -> GroupLoss:
    terms = one.terms + other.terms
    share = other.terms / max(terms, 1)
    gradient = list(one.gradient)
    torch._foreach_lerp_(gradient, other.gradient, share)
    return GroupLoss(torch.lerp(one.value, other.value, share), gradient, terms)


def mean_over_groups(
    values: Sequence[float], terms: Sequence[int]
) -> tuple[float, float]:
    """Mean of G numbers, which weigh as their loss terms, and its standard error.

    Args:
        values: of the groups.
        terms: of each.

    Returns:
        The error is infinite for a single group.
    """
    sums = torch.tensor(values, dtype=torch.float64, device="cpu") * torch.tensor(
        terms, device="cpu"
    )
    mean = float(sums.sum()) / sum(terms)
    if len(terms) < 2:
        return mean, math.inf
    return mean, math.sqrt(float(variance_by_batch(sums, terms)))


def _by_rows(objective: Objective, samples: int) -> Objective | None:
    """The objective in batches of some rows; None where its batches are no such."""
    try:
        rows = row_count(objective)
        if is_row_by_row(objective):
            return regrouped(
                objective, list(torch.split(torch.arange(rows, device="cpu"), samples))
            )
    except (UsageError, DataError):  # no rows, or rows that do not fit together
        pass
    return None
