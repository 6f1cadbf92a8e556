"""AdaShift: Adam whose step size comes from a gradient that its direction leaves out.

Source: Zhou et al., 2019, arXiv:1810.00143.

- The first n steps fill the window of gradients and change no weight.
- The mean over the window is taken anew in every step, so nothing of the gradients
  before the window and no rounding is left in it.
- Weight decay is added to the gradient.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from steppe.bases.abstract import (
    BASES,
    MOMENTS,
    AbstractBase,
    Bucket,
    Group,
    as_texts,
    check_pair,
)
from steppe.errors import check_choice
from steppe.registry.bounds import Ranges, at_least, check_bounds


class AdaShift(AbstractBase):
    """Adam with a second moment that lags n steps behind.

    In step t > n, with the gradients g::

        v_t = beta2 v_{t-1} + (1 - beta2) reduce(g_{t-n}^2)
        m_t = sum of beta1^i g_{t-i} / sum of beta1^i, i from 0 to n - 1
        w_t = w_{t-1} - lr m_t / (sqrt(v_t / (1 - beta2^(t-n))) + eps)

    A parameter whose gradient was zero when the window began to move makes a step of
    the order lr |m| / eps; a larger `eps` bounds it. Keeps n copies of the parameters.

    Args:
        params: parameters or groups of them.
        lr: step size >= 0, in the units of the parameters.
        betas: decay in the window and of the second moment, each in [0, 1).
        window: n >= 1 gradients that are kept; fixed once a parameter has stepped.
        reduce: over the entries of each tensor, so that all of them share one step
            size; "none" gives each its own.
        eps: >= 0, in the units of the gradient.
        weight_decay: times the weights, added to the gradient; >= 0.

    Raises:
        SettingError: a setting out of its range.
    """

    bounds: ClassVar[Ranges] = {**MOMENTS, "window": at_least(1)}

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        window: int = 10,
        reduce: Literal["max", "mean", "none"] = "max",
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "window": window,
            "reduce": reduce,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def _settled(self, settings: Group) -> dict[str, Any]:
        check_bounds(settings, self.bounds)
        check_pair("betas", settings["betas"])
        check_choice("reduce", settings["reduce"], ("max", "mean", "none"))
        return dict(settings)

    def _shapes(self, param: Tensor, group: Group) -> dict[str, torch.Size]:
        return {
            "ring": torch.Size((group["window"], *param.shape)),
            "exp_avg_sq": param.shape if group["reduce"] == "none" else torch.Size(),
        }

    def _update(self, bucket: Bucket, group: Group) -> None:
        window, (beta1, beta2) = group["window"], group["betas"]
        rows = [ring.unbind() for ring in bucket.state("ring")]
        slot = (bucket.step - 1) % window
        latest = [row[slot] for row in rows]
        moments = bucket.state("exp_avg_sq")
        moves = bucket.step - window  # with this one
        if moves > 0:
            torch._foreach_mul_(moments, beta2)
            leaving = reduced_squares(latest, group["reduce"])
            torch._foreach_add_(moments, leaving, alpha=1 - beta2)
        torch._foreach_copy_(latest, bucket.decayed(group["weight_decay"]))
        if moves > 0:
            direction = windowed_mean(rows, slot, beta1)
            scales = torch._foreach_div(moments, 1 - beta2**moves)
            torch._foreach_sqrt_(scales)
            torch._foreach_add_(scales, group["eps"])
            torch._foreach_div_(direction, scales)
            torch._foreach_add_(bucket.params, direction, alpha=-float(group["lr"]))


def reduced_squares(
    grads: list[Tensor], reduce: Literal["max", "mean", "none"]
) -> list[Tensor]:
    """Largest or mean squared entry of each tensor, or all squares.

    Args:
        grads: P tensors.
        reduce: "max" and "mean" give tensors of shape (), "none" of the gradients'.
    """
    if reduce == "none":
        return list(torch._foreach_mul(grads, grads))
    sizes = list(torch._foreach_norm(grads, math.inf if reduce == "max" else 2))
    if reduce == "mean":
        torch._foreach_div_(sizes, [math.sqrt(g.numel()) for g in grads])
    torch._foreach_mul_(sizes, sizes)
    return sizes


def windowed_mean(
    rows: list[tuple[Tensor, ...]], newest: int, decay: float
) -> list[Tensor]:
    """Mean over a window, weighted by decay^age.

    Args:
        rows: for each of P parameters its n gradients, in a ring.
        newest: place of the latest gradient in the ring; its age is 0.
        decay: in [0, 1); 0 gives the latest gradient.

    Returns:
        P tensors.
    """
    window = len(rows[0])
    powers = [decay**age for age in range(window)]
    shares = [power / sum(powers) for power in powers]
    mean = list(torch._foreach_mul([row[newest] for row in rows], shares[0]))
    for age in range(1, window):
        older = [row[(newest - age) % window] for row in rows]
        torch._foreach_add_(mean, older, alpha=shares[age])
    return mean


@BASES.add(
    "adashift",
    source="Zhou et al., 2019, arXiv:1810.00143",
    offers=AdaShift,
    bounds=as_texts(AdaShift.bounds),
)
def adashift(
    params: ParamsT,
    *,
    lr: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    window: int = 10,
    reduce: Literal["max", "mean", "none"] = "max",
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> AdaShift:
    """AdaShift; the first `window` steps change no weight."""
    return AdaShift(
        params,
        lr,
        betas=(beta1, beta2),
        window=window,
        reduce=reduce,
        eps=eps,
        weight_decay=weight_decay,
    )
