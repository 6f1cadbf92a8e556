"""Methods that combine the gradients of several passes into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.stepping.context import StepContext
from steppe.vectors import joint_dot, joint_norm


def aligned(step: StepContext, *earlier: Mapping[Tensor, Tensor]) -> list[list[Tensor]]:
    """Gradients of all passes in one order; a missing one is zero.

    Args:
        step: the running one.
        earlier: gradients of earlier passes, each from `gradients()` after its pass.

    Returns:
        The P parameters with a gradient in any pass, their gradients of each earlier
        pass, and those of the last pass, which are `p.grad` itself.
    """
    now = step.gradients()
    if any(g.is_sparse for grads in (now, *earlier) for g in grads.values()):
        raise UsageError(
            "sparse gradients of several passes cannot be combined; make the embedding "
            "with sparse=False."
        )
    for grads in earlier:
        for p, grad in grads.items():
            if p not in now:
                p.grad = now[p] = torch.zeros_like(grad)
    lists = [
        [grads[p] if p in grads else torch.zeros_like(g) for p, g in now.items()]
        for grads in earlier
    ]
    return [list(now), *lists, list(now.values())]


def renewed_mean(
    step: StepContext,
    name: str,
    params: list[Tensor],
    grads: list[Tensor],
    fresh: Sequence[float],
) -> list[Tensor]:
    """A running mean of gradients with the present ones in it; begins with the first.

    It is remembered too, once the step is over.

    Args:
        step: the running one.
        name: of the mean in the method's state.
        params: P parameters.
        grads: P gradients, kept as they are.
        fresh: P shares of the present gradients.
    """
    memory = step.method_state
    mean = memory.get(name, params)
    if not memory.has(name):
        fresh = [1.0] * len(params)
    began = memory.numbers.setdefault(f"{name}_began", step.number)
    if began == step.number and memory.has(name) and params:
        # Loops of this step came before. If they all overflowed, the mean is zero and
        # still begins; looking would make a device wait.
        begun = joint_norm(mean) > 0
        mean = [
            torch.where(begun.to(m.device), m, g)
            for m, g in zip(mean, grads, strict=True)
        ]
    renewed = list(torch._foreach_lerp(mean, grads, list(fresh))) if params else []
    memory.stage(name, params, renewed)
    return renewed


def mix_(tensors: list[Tensor], others: list[Tensor], shares: Sequence[float]) -> None:
    """Go from each tensor towards its other one: t + share (o - t), in place.

    A share of 0 leaves the tensors, and one of 1 gives the others, bit for bit; so does
    any share where the two are equal.

    Args:
        tensors: P tensors.
        others: P tensors.
        shares: P numbers; outside [0, 1] they go further than the others.
    """
    for share, (mine, theirs) in _by_number(tensors, others, shares).items():
        torch._foreach_lerp_(mine, theirs, share)


def _by_number(
    tensors: list[Tensor], others: list[Tensor], numbers: Sequence[float]
) -> dict[float, tuple[list[Tensor], list[Tensor]]]:
    """Pairs of tensors that share a number, so that one call serves them."""
    kinds: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
    for tensor, other, number in zip(tensors, others, numbers, strict=True):
        mine, theirs = kinds.setdefault(number, ([], []))
        mine.append(tensor)
        theirs.append(other)
    return kinds


def add_(tensors: list[Tensor], others: list[Tensor], factors: Sequence[float]) -> None:
    """Add a multiple of each other tensor, in place, in one pass over memory.

    Args:
        tensors: P tensors.
        others: P tensors.
        factors: P numbers.
    """
    for factor, (mine, theirs) in _by_number(tensors, others, factors).items():
        torch._foreach_add_(mine, theirs, alpha=factor)


def times_(
    tensors: list[Tensor], number: Tensor, slopes: Sequence[float], *, offset: float
) -> None:
    """Multiply each tensor by offset + slope * number, in place, without a host sync.

    Args:
        tensors: P tensors.
        number: shape ().
        slopes: P factors of the number.
        offset: the same for all.
    """
    kinds: dict[tuple[float, torch.device], list[Tensor]] = {}
    for tensor, slope in zip(tensors, slopes, strict=True):
        kinds.setdefault((slope, tensor.device), []).append(tensor)
    for (slope, device), group in kinds.items():
        torch._foreach_mul_(group, (offset + slope * number).to(device))


def cosine_and_norms(
    left: list[Tensor], right: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine of two joint vectors and their L2 norms, each of shape ().

    The projection of one on the other is cosine * norm / other norm times the other.
    With a zero vector the cosine is 0.
    """
    norms = joint_norm(left), joint_norm(right)
    cosine = joint_dot(left, right) / (nonzero(norms[0]) * nonzero(norms[1]))
    return cosine, *norms


def nonzero(norm: Tensor) -> Tensor:
    """A norm to divide by: 1 in place of 0."""
    return norm + (norm == 0)
