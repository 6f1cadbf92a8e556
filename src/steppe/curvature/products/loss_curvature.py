"""Curvature of the loss in the outputs of the model.

A Gauss-Newton or Fisher matrix is J' H J with J the derivative of the outputs z by the
parameters, and H either the second derivatives of the losses in z or the second moment
of their gradients at drawn targets.

Source: Schraudolph, 2002, doi:10.1162/08997660260028683, section 3; Martens, 2020,
arXiv:1412.1193, sections 8 and 9 (drawn targets, and where H is the same).

Shape letters: B rows of a batch, C outputs of a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.curvature.products.autograd import differentiate
from steppe.curvature.products.outputs import Outputs
from steppe.errors import DataError, UsageError
from steppe.losses import Likelihood, answer_weights, class_dimension
from steppe.objective import Objective


def loss_hessian_times(outputs: Outputs, u: Tensor) -> Tensor:
    """Second derivatives of the summed losses in z, times `u`; shaped like z.

    Raises:
        UsageError: the loss has an operation without a second derivative in torch.
    """
    (image,) = differentiate(
        (outputs.output_gradient,), (outputs.leaf,), (u,), keep="retain"
    )
    return image


def loss_factors(objective: Objective, outputs: Outputs) -> Tensor:
    """Columns S whose outer products add up to the curvature of each row's loss.

    Closed forms for cross entropy and squared error; for other losses the second
    derivatives of each row by C backward passes, and their spectral square root.

    Returns:
        Shape (C, *z.shape): in every row the sum over the first dimension of the outer
        products of these columns is the C x C matrix of second derivatives.

    Raises:
        UsageError: z is not of shape (B, C) or (B,), or rows share a loss term.
        DataError: the loss of a row is not convex in its outputs.
    """
    z = outputs.z.detach()
    if z.dim() not in (1, 2):
        raise UsageError(
            "factors of the loss need outputs of shape (B, C), one row for each loss "
            f"term, got {tuple(z.shape)}; reshape the outputs and targets in the model "
            "and the data, or use GGN, which takes any shape."
        )
    likelihood, mask = objective.likelihood, kept_rows(objective, outputs)
    if likelihood is None or _soft(objective, outputs):
        return _spectral_factors(outputs)
    if likelihood.outputs == "logits" and z.dim() == 2:
        factors = _softmax_factors(z)
    elif likelihood.outputs == "means":
        share = z.numel() / outputs.losses.numel()
        columns = z.shape[1] if z.dim() == 2 else 1
        eye = torch.eye(columns, dtype=z.dtype, device=z.device)
        rows = eye.unsqueeze(1).expand(columns, len(z), columns)
        factors = (rows * (2 / share) ** 0.5).reshape(columns, *z.shape)
    else:
        return _spectral_factors(outputs)
    return factors if mask is None else factors * mask


def sampled_gradients(
    objective: Objective, outputs: Outputs, generator: torch.Generator
) -> Tensor:
    """Gradient in z of the losses at targets drawn from the model; shaped like z.

    The second moment of these gradients is the Fisher matrix in z. Targets of
    `ignore_index` stay ignored, and smoothing of the targets is left out.

    Raises:
        UsageError: the loss does not say which distribution it stands for.
    """
    likelihood = known_likelihood(objective)
    z = outputs.z.detach()
    classes = classes_along(objective, outputs)
    drawn = _draw(likelihood, z, outputs.losses.numel(), classes, generator)
    weights = weights_of_answers(objective, outputs)
    if weights is not None:
        drawn = drawn * weights.sqrt()
    mask = kept_rows(objective, outputs)
    return drawn if mask is None else drawn * mask


def known_likelihood(objective: Objective) -> Likelihood:
    """The distribution of the targets.

    Raises:
        UsageError: the loss does not say it.
    """
    if objective.likelihood is None:
        raise UsageError(
            "the Fisher matrix needs the distribution of the targets, which the loss "
            f"'{objective.loss_name}' does not say; give the objective 'cross_entropy',"
            " 'mse' or a torch loss such as BCEWithLogitsLoss, or use "
            "GGN or EmpiricalFisher, which take any loss."
        )
    return objective.likelihood


def weights_of_answers(objective: Objective, outputs: Outputs) -> Tensor | None:
    """Weights of the answers to several questions, shaped like z; None for none.

    Raises:
        UsageError: a weight is negative.
    """
    likelihood = objective.likelihood
    if likelihood is None or likelihood.outputs != "log_odds":
        return None
    targets = objective.batches[outputs.index][1].to(outputs.z)
    weights = answer_weights(objective.loss, targets)
    if weights is not None and bool((weights < 0).any()):
        raise UsageError(
            "the weights of the answers must be >= 0 for a Fisher matrix, got "
            f"{float(weights.min()):.3g}; give another weight= or pos_weight= to "
            f"{objective.loss_name}, or use GGN."
        )
    return weights


def kept_rows(objective: Objective, outputs: Outputs) -> Tensor | None:
    """1 where the target counts and 0 where it is ignored, to multiply z with.

    None where no target is ignored.
    """
    likelihood = objective.likelihood
    if likelihood is None or likelihood.ignored is None or _soft(objective, outputs):
        return None
    targets = objective.batches[outputs.index][1].to(outputs.z.device)
    mask = targets != likelihood.ignored
    if bool(mask.all()):
        return None
    classes = classes_along(objective, outputs)
    weights: Tensor = mask.unsqueeze(classes).to(outputs.z.dtype)
    return weights


def classes_along(objective: Objective, outputs: Outputs) -> int:
    """Dimension of z that classes lie along, for a likelihood of classes."""
    likelihood = objective.likelihood
    if likelihood is None or likelihood.ignored is None:
        return 1
    targets: Tensor = objective.batches[outputs.index][1]
    return class_dimension(outputs.z.shape, targets.shape)


def _soft(objective: Objective, outputs: Outputs) -> bool:
    """Whether targets are probabilities of classes."""
    likelihood = objective.likelihood
    if likelihood is None or likelihood.ignored is None:
        return False
    targets: Tensor = objective.batches[outputs.index][1]
    return targets.is_floating_point()


def _draw(
    likelihood: Likelihood,
    z: Tensor,
    terms: int,
    classes: int,
    generator: torch.Generator,
) -> Tensor:
    if likelihood.outputs == "logits":
        p = torch.softmax(z, classes)
        return p - _one_hot(p, classes, generator)
    if likelihood.outputs == "log_probabilities":
        return -_one_hot(z.exp(), classes, generator)
    share = z.numel() / terms
    if likelihood.outputs == "log_odds":
        p = torch.sigmoid(z)
        drawn = (_uniform(z.shape, generator).to(z.device) < p).to(z.dtype)
        # Each of d answers weighs 1 / d in a loss term, and so in the second moment.
        weighed: Tensor = (p - drawn) * share**-0.5
        return weighed
    # A loss term is the mean of d squares: a Gaussian of the variance d / 2.
    noise: Tensor = torch.randn(
        z.shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    return noise.to(z).mul_(-((2 / share) ** 0.5))


def _one_hot(p: Tensor, jvp: int, generator: torch.Generator) -> Tensor:
    """Classes drawn with probabilities `p` along a dimension, as 0 and 1."""
    cumulative = p.movedim(jvp, -1).double().cumsum(-1)
    # Drawn where the generator lives, so that a CPU seed means the same on a GPU.
    level = _uniform(cumulative.shape[:-1], generator).to(p.device).unsqueeze(-1)
    level = level * cumulative[..., -1:]
    classes = torch.searchsorted(cumulative, level, right=True)
    classes = classes.squeeze(-1).clamp(max=p.shape[jvp] - 1)
    drawn: Tensor = F.one_hot(classes, p.shape[jvp]).movedim(-1, jvp).to(p.dtype)
    return drawn


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    device = generator.device
    return torch.rand(shape, generator=generator, device=device, dtype=torch.float64)


def _softmax_factors(z: Tensor) -> Tensor:
    """Columns sqrt(p_c) (e_c - p), shape (C, B, C)."""
    p = torch.softmax(z, 1)
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    columns: Tensor = p.sqrt().T.unsqueeze(-1) * (eye.unsqueeze(1) - p)
    return columns


def _spectral_factors(outputs: Outputs) -> Tensor:
    blocks = _row_hessians(outputs)
    values, vectors = torch.linalg.eigh(blocks)
    least, most = float(values.min()), float(values.abs().max())
    if least < -_share(outputs) * most:
        raise DataError(
            "the loss of a row must be convex in the model's outputs, its second "
            f"derivatives have the eigenvalue {least:.3g}; use Hessian, which needs "
            "no factors."
        )
    columns = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
    shape = (columns.shape[-1], *outputs.z.shape)
    factors: Tensor = columns.movedim(-1, 0).reshape(shape).to(outputs.z.dtype)
    return factors


def _share(outputs: Outputs) -> float:
    """Root of the rounding unit of outputs and losses, of the coarser dtype."""
    dtypes = (outputs.z.dtype, outputs.losses.dtype)
    rounding: float = max(torch.finfo(dtype).eps for dtype in dtypes)
    return math.sqrt(rounding)


def _row_hessians(outputs: Outputs) -> Tensor:
    """Second derivatives of each row's loss, shape (B, C, C), float64."""
    z = outputs.z.detach()
    rows, columns = len(z), z.shape[1] if z.dim() == 2 else 1
    eye = torch.eye(columns, dtype=z.dtype, device=z.device)
    images = [
        loss_hessian_times(outputs, unit.expand(rows, columns).reshape(z.shape))
        for unit in eye
    ]
    blocks = torch.stack([f.reshape(rows, columns) for f in images], 2).double()
    # Rows that share a loss term show in a product whose rows weigh differently.
    weights = torch.linspace(1, 2, rows, dtype=z.dtype, device=z.device).unsqueeze(1)
    probe = weights.expand(rows, columns)
    seen = loss_hessian_times(outputs, probe.reshape(z.shape)).double()
    expected = blocks.sum(2) * weights
    apart = float((seen.reshape(rows, columns) - expected).abs().max())
    if apart > _share(outputs) * float(blocks.abs().max()):
        raise UsageError(
            "factors of the loss need one loss term for each row, but here rows share "
            "loss terms; use GGN, which takes any loss."
        )
    return blocks
