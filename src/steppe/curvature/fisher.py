"""Fisher information matrices, known by their products with vectors.

Source: Martens, 2020, arXiv:1412.1193, sections 5, 8, 9 and 11: the Fisher matrix of
the model's own predictions, by drawn targets or exactly, and the "empirical" one of the
targets given, which is another matrix.

Shape letters: N loss terms, B rows of a batch, M draws.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from steppe.curvature.gauss_newton import AbstractGaussNewton
from steppe.curvature.operator import Settings
from steppe.curvature.products.loss_curvature import (
    classes_along,
    kept_rows,
    known_likelihood,
    sampled_gradients,
    weights_of_answers,
)
from steppe.curvature.products.outputs import Outputs, outputs_on, split_at_outputs
from steppe.curvature.products.retained import Metric
from steppe.errors import SettingError, check_integer
from steppe.losses import Likelihood
from steppe.objective import Objective, check_objective
from steppe.seeds import stream


class Fisher(AbstractGaussNewton):
    """Mean outer product of gradients at targets drawn from the model's predictions.

    Exactly, or with M targets drawn for each loss term. These are fixed by the seed, so
    that products are those of one symmetric matrix, whose mean over seeds is the exact
    one. With a seed, they also depend on how the data is split into batches.

    For cross entropy, squared error and losses of yes or no answers
    (BCEWithLogitsLoss, MultiLabelSoftMarginLoss) the exact matrix is the GGN; for
    nll_loss it is that of the distribution whose log probabilities the model gives.
    Smoothing of the targets is no part of the distribution.

    Several answers of a sample are independent, each of the probability that the model
    gives it: the matrix is the mean over the answers of that of each, with the weight
    that the loss gives to the answer in the data (`weight`, `pos_weight`). Drawn
    answers enter one by one: products of two, whose mean is 0, are left out.

    Args:
        objective: the mean loss: "cross_entropy", "mse", a torch loss such as
            BCEWithLogitsLoss, or the function of it.
        samples: number M of targets for each loss term; None for the exact matrix.
        seed: of the drawn targets.
        settings: those of `AbstractCurvature`.

    Raises:
        SettingError: fewer than one sample.
        UsageError: a loss that does not say which distribution it stands for; also what
            `GGN` refuses.
    """

    kind = "fisher"
    penalised = False  # a penalty is no part of the distribution of the targets
    facts = ("samples", "seed")

    def __init__(
        self,
        objective: Objective,
        *,
        samples: int | None = None,
        seed: int = 0,
        **settings: Unpack[Settings],
    ) -> None:
        check_objective(objective, "Fisher")
        check_integer("samples", 1 if samples is None else samples)
        if samples is not None and samples < 1:
            raise SettingError(f"samples must be >= 1 or None, got {samples}.")
        check_integer("seed", seed)
        self._likelihood = known_likelihood(objective)
        self.samples = samples
        self.seed = seed
        super().__init__(objective, **settings)

    def _diagonal_of(self) -> Literal["ggn"] | None:
        linear = self._likelihood.outputs == "log_probabilities"
        # Probabilities as targets may add up to something else than 1.
        soft = self._likelihood.outputs == "logits" and any(
            batch[1].is_floating_point() for batch in self.objective.batches
        )
        return None if self.samples is not None or linear or soft else "ggn"

    def _outputs(self, batch: Any) -> Tensor:
        return outputs_on(self.objective, batch)

    def _linearised(self, index: int) -> tuple[Tensor, Metric]:
        outputs = split_at_outputs(self.objective, index)
        if self.samples is not None:
            return outputs.z, partial(_drawn_metric, *self._draws(index, outputs))
        return outputs.z, _exact_metric(self.objective, self._likelihood, outputs)

    def _draws(self, index: int, outputs: Outputs) -> tuple[Tensor, tuple[int, ...]]:
        """Gradients at drawn targets, (M, *z.shape), and the dimensions of one row."""
        source = stream(self.seed, self.ranks.number, index)
        assert self.samples is not None
        draws = [
            sampled_gradients(self.objective, outputs, source)
            for _ in range(self.samples)
        ]
        rows: dict[str, tuple[int, ...]] = {
            "log_odds": (),
            "means": tuple(range(2, outputs.z.dim() + 1)),
        }
        classes = 1 + classes_along(self.objective, outputs)  # after the draws
        return torch.stack(draws), rows.get(self._likelihood.outputs, (classes,))


class EmpiricalFisher(AbstractGaussNewton):
    """Mean outer product of the gradients of all loss terms, at the targets given.

    The second moment of per-sample (or per-token) gradients, of any loss. It is not the
    Fisher matrix, and no curvature away from a good fit. The settings are those of
    `AbstractCurvature`.
    """

    kind = "empirical_fisher"
    penalised = False

    def _diagonal_of(self) -> None:
        return None

    def _outputs(self, batch: Any) -> Tensor:
        return self.objective.losses_on(batch)

    def _linearised(self, index: int) -> tuple[Tensor, Metric]:
        return self.objective.batch_losses(index), _euclidean


def _euclidean(u: Tensor) -> Tensor:
    return u


def _drawn_metric(draws: Tensor, row: tuple[int, ...], u: Tensor) -> Tensor:
    """Mean over draws g of g g' u, row for row."""
    along = draws * u
    inner = along.sum(row, keepdim=True) if row else along
    return (draws * inner).mean(0)


def _exact_metric(
    objective: Objective, likelihood: Likelihood, outputs: Outputs
) -> Metric:
    """Products with the Fisher matrix of the distribution of each row's target."""
    z, mask = outputs.z.detach(), kept_rows(objective, outputs)
    classes = classes_along(objective, outputs)
    share = z.numel() / outputs.losses.numel()  # values of a loss term
    match likelihood.outputs:
        case "logits":
            p = torch.softmax(z, classes)
        case "log_probabilities":
            p = z.exp()
        case "log_odds":
            p = torch.sigmoid(z) * torch.sigmoid(-z) / share
            weights = weights_of_answers(objective, outputs)
            p = p if weights is None else p * weights
        case "means":
            p = torch.full_like(z, 2 / share)
    if mask is not None:
        p = p * mask

    def times(u: Tensor) -> Tensor:
        weighed = p * u
        if likelihood.outputs == "logits":
            weighed = weighed - p * weighed.sum(classes, keepdim=True)
        return weighed

    return times
