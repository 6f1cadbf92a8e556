"""Changes of the loss by the parts of a gradient step, one by one.

Source: Jastrzebski et al., 2019, arXiv:1807.05031, Section 3, with the factors of the
authors' code.

Shape letters: D parameters in all, K directions, M gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.objective import Objective
from steppe.parameters import displace_, overwrite_, restored, unflatten
from steppe.results import Cost

FACTORS = (0.25, 0.33, 0.5, 1.0, 2.0, 3.0, 4.0)


def decomposed(
    objective: Objective,
    gradients: Tensor,
    directions: Tensor,
    lr: float,
    factors: Sequence[float],
    generator: torch.Generator,
) -> dict[str, Any]:
    """Mean changes of the loss, by direction and factor of the step length.

    Args:
        objective: the mean loss; its parameters come back bit for bit.
        gradients: shape (M, D).
        directions: orthonormal, shape (D, K).
        lr: learning rate of the step.
        factors: of the length of the step.
        generator: of the random direction.

    Raises:
        SettingError: gradients of another shape.
    """
    size = len(directions)
    if gradients.dim() != 2 or gradients.shape[1] != size or not len(gradients):
        raise SettingError(
            f"gradients must have the shape (M, {size}), got {tuple(gradients.shape)}."
        )
    # For comparison: a direction that curvature has no part in choosing.
    drawn = torch.randn(
        size, generator=generator, device=generator.device, dtype=torch.float32
    )
    drawn = (drawn / drawn.norm()).to(directions.device, directions.dtype)
    named = {str(i): v for i, v in enumerate(directions.unbind(1))} | {"random": drawn}
    before = _losses(objective, [torch.zeros_like(drawn)])[0]
    gradients = gradients.to(directions.device, directions.dtype)
    changes = {}
    for name, direction in named.items():
        parts = [-lr * (g @ direction) * direction for g in gradients]
        changes[name] = _changes(objective, parts, factors, before)
    steps = [-lr * g for g in gradients]
    changes["step"] = _changes(objective, steps, factors, before)
    return {"loss": before, "factors": list(factors), "changes": changes}


def _changes(
    objective: Objective, steps: Sequence[Tensor], factors: Sequence[float], loss: float
) -> list[float]:
    # One by one, not stacked: a step is as long as all parameters together.
    losses = _losses(objective, (f * step for f in factors for step in steps))
    each = torch.tensor(losses, dtype=torch.float64, device="cpu").view(
        len(factors), len(steps)
    )
    means: list[float] = (each.mean(1) - loss).tolist()
    return means


def _losses(objective: Objective, steps: Iterable[Tensor]) -> list[float]:
    """Mean loss after each of the steps from the present parameters."""
    params: list[Tensor] = list(objective.params)
    losses = []
    objective.check_repeatable()
    with objective.measuring(), restored(params) as base, torch.no_grad():
        for step in steps:
            overwrite_(params, base)  # adding and taking away again would round
            displace_(params, unflatten(step, params))
            losses.append(float(objective.mean_loss()))
    objective.cost += Cost(forwards=len(losses))
    return losses
