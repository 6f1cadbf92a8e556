"""Curvature by the weight of the last linear layer, from its inputs and outputs.

Where the outputs are z = W phi + b, the Hessian by W is the mean over the loss terms of
H_z (x) phi phi', with H_z the second derivatives of a term in z: diag(p) - p p' for
cross-entropy, a multiple of the identity for squared errors.

Shape letters: B rows of a batch, C outputs of a row, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.losses import class_dimension
from steppe.measures.needs.outputs.outputs import OverOutputs
from steppe.measuring.evaluation import Evaluation, head_of
from steppe.objective import Objective


@dataclass(frozen=True)
class HeadCurvature(OverOutputs[float]):
    """Sum over pairs of rows w, w' of the head of <w, w'> times the trace of their H.

    Args:
        weighted: False puts 1 for equal and 0 for different rows in place of <w, w'>,
            which makes it the trace of the Hessian by the weight.
    """

    weighted: bool = True

    def of_batch(self, evaluation: Evaluation, objective: Objective) -> Tensor:
        """Sum over the rows, and the number of loss terms, shape (2,), float64."""
        phi, z, head = evaluation.features, evaluation.outputs, head_of(objective.model)
        known = objective.likelihood
        if phi is None or head is None or known is None:
            raise UsageError(_NO_HEAD)
        W, z, phi = head[1].weight.detach().double(), z.double(), phi.double()
        terms = evaluation.losses.numel()
        if known.outputs == "logits" and z.dim() > 1:
            traces = _of_classes(z, W if self.weighted else None)
            traces = traces * _weights(evaluation.batch[1], z, known.ignored)
        elif known.outputs == "means":
            share = z.numel() / max(terms, 1)
            size = W.square().sum() if self.weighted else len(W)
            traces = torch.full_like(z[..., 0], 1) * size * (2 / share)
        else:
            raise UsageError(_NO_HEAD)
        total = (phi.square().sum(-1) * traces).sum()
        return torch.stack([total, torch.full_like(total, terms)]).cpu()

    def combined(self, batches: Sequence[Tensor]) -> float:
        """The mean over all loss terms."""
        total, terms = torch.stack([*batches]).sum(0).tolist()
        return total / terms if terms else float("nan")


def _of_classes(z: Tensor, W: Tensor | None) -> Tensor:
    """Trace of G (diag(p) - p p') with G = W W', or the identity for None."""
    p = z.softmax(-1)
    if W is None:
        return 1 - p.square().sum(-1)
    # About the mean row: a sum of squares, which does not cancel where p is sure.
    mean = p @ W
    inner = p @ W.square().sum(1) - mean.square().sum(-1)
    return inner.clamp(min=0)


def _weights(targets: Tensor, z: Tensor, ignored: int | None) -> Tensor:
    """Weight of each row: 0 where ignored, the sum of soft targets."""
    if targets.is_floating_point():
        return targets.sum(-1).to(z)
    if class_dimension(z.shape, targets.shape) != z.dim() - 1:
        raise UsageError(_NO_HEAD)
    return torch.ones_like(z[..., 0]) if ignored is None else (targets != ignored).to(z)


_NO_HEAD = (
    "the closed form by the last layer needs outputs of the last linear layer itself "
    "with cross-entropy or squared errors; name a layer, such as layer='4', to measure "
    "it by Hessian products."
)
