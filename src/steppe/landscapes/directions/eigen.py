"""Directions of the largest curvature, and the length of a step of SGD along them.

Source: Jastrzebski et al., 2019, arXiv:1807.05031, whose code draws the loss along
eigenvectors of the Hessian in units of the step along each; "by_grad_norm_lr" there is
the unit "step" here, and "by_grad_norm_<p>" the same with `lr` p.

Shape letters: P parameter tensors, D parameters in all, K directions, M minibatches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from steppe.curvature.hessian import Hessian
from steppe.errors import (
    SettingError,
    UsageError,
    brief,
    check_count,
    check_integer,
    check_positive,
)
from steppe.linalg.lanczos import eigsh
from steppe.linalg.protocols import LinearOperator
from steppe.objective import Objective, check_objective
from steppe.parameters import flatten
from steppe.results import Cost, Eigenpairs

EigenUnit = Literal["absolute", "step"] | float
HALF = (torch.bfloat16, torch.float16)


class EigenSettings(TypedDict, total=False):
    """Settings of subspaces along eigenvectors.

    Args:
        pairs: eigenpairs at the present parameters; None computes them.
        unit: of the coordinates: "absolute" is the distance in parameter space, "step"
            the mean length lr |g.v| of a step of plain SGD along each eigenvector v, a
            number that length in parameter space.
        lr: learning rate, with the unit "step".
        minibatches: the batches of such a step, as an objective of the same model;
            None for those of the objective itself. Its batch size and mode are to be
            those of the training.
        count: of the batches that the length of a step is averaged over, drawn without
            replacement; all where there are fewer.
        seed: of the draw of the batches.
        matrix: whose eigenvectors they are: an operator class, or a function of an
            Objective.
        tol: residuals as a share of the magnitude of the eigenvalue.
        max_products: budget of operator-vector products; None as in `eigsh`.
        allow_unconverged: draw along pairs beyond the tolerance too.
    """

    pairs: Eigenpairs | None
    unit: EigenUnit
    lr: float | None
    minibatches: Objective | None
    count: int
    seed: int
    matrix: Callable[[Objective], LinearOperator]
    tol: float
    max_products: int | None
    allow_unconverged: bool


def eigenpairs_for(
    objective: Objective,
    indices: Sequence[int],
    *,
    matrix: Callable[[Objective], LinearOperator] = Hessian,
    tol: float = 1e-3,
    max_products: int | None = None,
) -> Eigenpairs:
    """The eigenpairs that indices count: from the top, negative ones from the bottom.

    Args:
        objective: the mean loss at the present parameters.
        indices: 0 is the largest eigenvalue, -1 the smallest.
        matrix: operator class, or a function of an Objective.
        tol: of `eigsh`.
        max_products: of `eigsh`.

    Raises:
        SettingError: an index beyond the number of parameters.
    """
    _check_indices(indices)
    operator = matrix(objective)
    size = operator.shape[0]
    top = max((i + 1 for i in indices if i >= 0), default=0)
    bottom = max((-i for i in indices if i < 0), default=0)
    if max(top, bottom) > size:
        raise SettingError(
            f"an eigenvector must be one of {size}, as many as there are parameters, "
            f"got index {max(indices, key=abs)}."
        )
    # "BE" takes as many from each end; all of them where the ends would meet.
    both = min(2 * max(top, bottom), size)
    which, k = ("BE", both) if top and bottom else ("LA" if top else "SA", top + bottom)
    try:
        return eigsh(operator, k, which=which, tol=tol, max_products=max_products)  # type: ignore[arg-type]
    finally:
        # Graphs that are kept would share memory with what comes next.
        getattr(operator, "close", lambda: None)()


def chosen_vectors(pairs: Eigenpairs, indices: Sequence[int], allowed: bool) -> Tensor:
    """Unit eigenvectors of some indices, with a sign that runs agree on.

    Args:
        pairs: values descending.
        indices: of the pairs; -1 is the last.
        allowed: pairs beyond their tolerance too.

    Returns:
        Shape (D, K), float64; the entry of the largest magnitude is positive.

    Raises:
        UsageError: pairs that are not within their tolerance.
        SettingError: an index beyond the pairs, or the same twice.
    """
    _check_indices(indices)
    count = len(pairs.values)
    if not all(-count <= i < count for i in indices):
        raise SettingError(
            f"index must be from {-count} to {count - 1} with {count} eigenpairs, got "
            f"{brief(list(indices))}."
        )
    if len({i % count for i in indices}) < len(indices):
        raise SettingError(
            f"the eigenvectors of a plane must differ, got indices {list(indices)}."
        )
    if not pairs.converged and not allowed:
        shares = pairs.residuals / pairs.values.abs().clamp(min=1e-300)
        raise UsageError(
            f"the eigenpairs did not converge in {pairs.products} products, with "
            f"residuals up to {float(shares.max()):.2g} of the eigenvalue; raise "
            "max_products or tol, or pass allow_unconverged=True."
        )
    vectors = pairs.vectors[:, list(indices)].double()
    vectors = vectors / vectors.norm(dim=0)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    signed: Tensor = vectors * largest.sign()
    return signed


def step_lengths(
    minibatches: Objective, vectors: Tensor, lr: float, count: int, seed: int
) -> tuple[Tensor, int]:
    """Mean length lr |g.v| of a step of plain SGD along directions.

    Args:
        minibatches: its batches are those of a step; g is the gradient of the mean
            loss of one, with the penalty.
        vectors: unit directions, shape (D, K).
        lr: learning rate.
        count: batches to draw without replacement; all where there are fewer.
        seed: of the draw.

    Returns:
        Lengths, shape (K,), float64, and the number M of batches.

    Raises:
        DataError: no batch with a loss term.
    """
    order = torch.randperm(
        len(minibatches.batches),
        generator=torch.Generator().manual_seed(seed),
        device="cpu",
    )
    chosen = order[:count].tolist()
    parts = torch.stack(
        [
            gradient.double() @ vectors.to(gradient.device)
            for gradient in _gradients(minibatches, chosen)
        ]
    )
    # Batches that were not drawn have no part in the number of passes.
    share = len(chosen) / len(minibatches.batches)
    minibatches.cost += Cost(gradients=share)
    return lr * parts.abs().mean(0), len(chosen)


def eigen_directions(
    objective: Objective,
    indices: Sequence[int],
    *,
    pairs: Eigenpairs | None = None,
    unit: EigenUnit = "absolute",
    lr: float | None = None,
    minibatches: Objective | None = None,
    count: int = 10,
    seed: int = 0,
    matrix: Callable[[Objective], LinearOperator] = Hessian,
    tol: float = 1e-3,
    max_products: int | None = None,
    allow_unconverged: bool = False,
) -> tuple[Tensor, dict[str, Any]]:
    """Eigenvectors of the length of one unit, and how they were made.

    There is one for each of the indices; the settings are those of `EigenSettings`.

    Returns:
        Vectors, shape (D, K), float64, and the details.

    Raises:
        SettingError: a setting out of range, pairs of another network, or parameters
            in half precision.
        UsageError: eigenpairs that did not converge, or a step without a part along
            an eigenvector.
    """
    check_unit(unit, lr)
    check_count("count", count, 1)
    check_integer("seed", seed)
    check_batches(objective, minibatches)
    _check_precision(objective)
    if pairs is None:
        pairs = eigenpairs_for(
            objective, indices, matrix=matrix, tol=tol, max_products=max_products
        )
    size = sum(p.numel() for p in objective.params)
    if pairs.vectors.shape[0] != size:
        raise SettingError(
            f"eigenvectors must have {size} entries, one for each parameter of the "
            f"objective, got {pairs.vectors.shape[0]}."
        )
    vectors = chosen_vectors(pairs, indices, allow_unconverged)
    lengths = torch.ones(len(indices), dtype=torch.float64, device="cpu")
    details: dict[str, Any] = {}
    if unit == "step":
        assert lr is not None
        source = objective if minibatches is None else minibatches
        lengths, drawn = step_lengths(source, vectors, lr, count, seed)
        details = {"lr": lr, "minibatches": drawn, "seed": seed}
    elif not isinstance(unit, str):
        lengths = lengths * float(unit)
    lengths = lengths.to(vectors)
    if not bool(((lengths > 0) & lengths.isfinite()).all()):
        raise UsageError(
            f"a unit along an eigenvector must be > 0 and finite, got "
            f"{lengths.tolist()}; pass unit='absolute' where gradients have no part "
            "along it."
        )
    order = list(indices)
    return vectors * lengths, {
        "subspace": "eigen",
        "index": order,
        "eigenvalues": pairs.values[order].tolist(),
        "residuals": pairs.residuals[order].tolist(),
        "converged": pairs.converged,
        "products": pairs.products,
        **({"matrix": pairs.details["matrix"]} if "matrix" in pairs.details else {}),
        "unit": unit,
        "lengths": lengths.tolist(),
        **details,
    }


def _gradients(objective: Objective, chosen: Sequence[int]) -> Iterator[Tensor]:
    """Gradients of the mean loss of single batches, with the penalty, (D,) each.

    They come one after the other: each is as large as the network.
    """
    steps = 0
    with objective.measuring(), torch.enable_grad():
        for index in chosen:
            losses = objective.batch_losses(index)
            if not losses.numel():  # a batch of ignored targets takes no step
                continue
            grads = [torch.zeros_like(p) for p in objective.params]
            if losses.requires_grad:  # else no parameter has an influence
                grads = list(
                    torch.autograd.grad(
                        losses.mean(), objective.params, materialize_grads=True
                    )
                )
            if objective.penalty is not None:
                for grad, p in zip(grads, objective.params, strict=True):
                    grad.add_(p.detach(), alpha=objective.penalty.curvature(p))
            steps += 1
            yield flatten([g.detach() for g in grads])
    if not steps:
        objective.note_terms(0)


def _check_indices(indices: Sequence[int]) -> None:
    for index in indices:
        check_integer("index", index)


def check_unit(unit: EigenUnit, lr: float | None) -> None:
    """Refuse an unknown unit, and a learning rate that goes with another one."""
    if isinstance(unit, str):
        if unit not in ("absolute", "step"):
            raise SettingError(
                "unit must be 'absolute', 'step' or a length in parameter space, got "
                f"'{unit}'."
            )
        if (unit == "step") != (lr is not None):
            raise SettingError(
                "lr must be given with unit='step' and with no other unit, got "
                f"unit='{unit}' and lr={lr}."
            )
        if lr is not None:
            check_positive("lr", lr)
        return
    check_positive("unit", unit)
    if lr is not None:
        raise SettingError(f"lr must be given with unit='step' alone, got unit={unit}.")


def check_batches(objective: Objective, minibatches: Objective | None) -> None:
    """Refuse batches of a step of another model than that of an objective."""
    if minibatches is None:
        return
    check_objective(minibatches, "minibatches")
    pairs = zip(objective.params, minibatches.params, strict=False)
    if objective.names != minibatches.names or any(a is not b for a, b in pairs):
        raise SettingError(
            "minibatches must be an objective of the same model, whose parameters are "
            "those of the first; make it of that model and the batches of a step."
        )


def _check_precision(objective: Objective) -> None:
    """Steps along an eigenvector are lost in the rounding of half precision."""
    for name, p in zip(objective.names, objective.params, strict=True):
        if p.dtype in HALF:
            raise SettingError(
                "a subspace along eigenvectors must have parameters in float32 or "
                f"float64, but {name} is {p.dtype}; use model.float()."
            )
