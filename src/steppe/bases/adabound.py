"""AdaBound and AMSBound: Adam whose step sizes close in on that of gradient descent.

Source: Luo et al., 2019, arXiv:1902.09843, Algorithms 2 and 3.

- Step sizes are divided by (1 - beta1^t) and multiplied by sqrt(1 - beta2^t), as in
  Adam; the authors' code does so, the paper leaves bias correction out.
- They are not divided by sqrt(t): the decay of the learning rate is a schedule's.
- With a schedule `final_lr` shrinks in proportion to lr, as in the authors' code.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from steppe.bases.abstract import (
    BASES,
    FROM_ZERO,
    MOMENTS,
    AbstractBase,
    Bucket,
    Group,
    as_texts,
    check_pair,
)
from steppe.errors import SettingError, check_switch
from steppe.registry.bounds import Ranges, check_bounds

# Texts do not say base_lr: a run begins with the lr that is meant.
BOUNDS: Ranges = {**MOMENTS, "final_lr": FROM_ZERO, "gamma": FROM_ZERO}


class AdaBound(AbstractBase):
    """Adam with bounds on the step size of each entry.

    With the moments m and v of Adam, f = final_lr lr / base_lr, and entry by entry::

        a_t = lr sqrt(1 - beta2^t) / (1 - beta1^t)
        s_t = clip(a_t / (sqrt(v_t) + eps), f (1 - 1 / (gamma t + 1)),
                   f (1 + 1 / (gamma t)))
        w_t = w_{t-1} - s_t m_t

    Args:
        params: parameters or groups of them.
        lr: step size >= 0 at the start, in the units of the parameters.
        betas: decay of the first and of the second moment, each in [0, 1).
        final_lr: step size >= 0 at the end, in squared units of the parameters per
            unit of loss.
        gamma: >= 0; how fast the bounds close in, per step. 0 is Adam.
        eps: >= 0, in the units of the gradient.
        weight_decay: >= 0, times the weights, added to the gradient.
        decoupled_weight_decay: take lr weight_decay w off the weights instead.
        amsbound: v is the largest second moment so far.
        base_lr: lr at which f is `final_lr`; None for the lr that the group is added
            with, before any schedule. Needed where that one is 0 and rises later.

    Raises:
        SettingError: a setting out of its range, or a step with lr > 0 in a group
            whose base_lr is 0.
    """

    bounds: ClassVar[Ranges] = {**BOUNDS, "base_lr": FROM_ZERO}

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        amsbound: bool = False,
        base_lr: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "final_lr": final_lr,
            "gamma": gamma,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "amsbound": amsbound,
            "base_lr": base_lr,
        }
        super().__init__(params, defaults)

    def _settled(self, settings: Group) -> dict[str, Any]:
        check_bounds(settings, self.bounds)
        check_pair("betas", settings["betas"])
        for name in ("decoupled_weight_decay", "amsbound"):
            check_switch(name, settings[name])
        lr, base_lr = settings["lr"], settings["base_lr"]
        if base_lr is None:
            base_lr = float(lr)  # a tensor would follow the schedule
        if base_lr == 0 and lr > 0:
            raise SettingError(
                f"base_lr must be > 0 where lr is, got 0 with lr={lr}: the group began "
                "with lr=0; give it base_lr, the lr at which final_lr is meant."
            )
        return {**settings, "base_lr": base_lr}

    def _shapes(self, param: Tensor, group: Group) -> dict[str, torch.Size]:
        names = ["exp_avg", "exp_avg_sq"]
        if group["amsbound"]:
            names.append("max_exp_avg_sq")
        return dict.fromkeys(names, param.shape)

    def _update(self, bucket: Bucket, group: Group) -> None:
        lr, decay = float(group["lr"]), group["weight_decay"]
        decoupled = group["decoupled_weight_decay"]
        first, second = self._moments(
            bucket, bucket.decayed(0.0 if decoupled else decay), group
        )
        if lr == 0:
            return
        final = group["final_lr"] * lr / group["base_lr"]
        low, high = bounds(final, group["gamma"], bucket.step)
        beta1, beta2 = group["betas"]
        start = lr * math.sqrt(1 - beta2**bucket.step) / (1 - beta1**bucket.step)
        rates = list(torch._foreach_sqrt(second))
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, start)
        torch._foreach_clamp_min_(rates, low)
        torch._foreach_clamp_max_(rates, high)
        torch._foreach_mul_(rates, first)
        if decoupled and decay:
            torch._foreach_mul_(bucket.params, 1 - lr * decay)
        torch._foreach_sub_(bucket.params, rates)

    def _moments(
        self, bucket: Bucket, grads: list[Tensor], group: Group
    ) -> tuple[list[Tensor], list[Tensor]]:
        beta1, beta2 = group["betas"]
        first, second = bucket.state("exp_avg"), bucket.state("exp_avg_sq")
        torch._foreach_mul_(first, beta1)
        torch._foreach_add_(first, grads, alpha=1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
        if not group["amsbound"]:
            return first, second
        largest = bucket.state("max_exp_avg_sq")
        torch._foreach_maximum_(largest, second)
        return first, largest


def bounds(final: float, gamma: float, step: int) -> tuple[float, float]:
    """Lower and upper bound on a step size.

    Args:
        final: what both go to, >= 0.
        gamma: how fast, per step, >= 0; 0 leaves the step size unbounded.
        step: from 1.
    """
    if gamma == 0:
        return 0.0, math.inf
    low = final * (1 - 1 / (gamma * step + 1))
    return low, final * (1 + 1 / (gamma * step))


@BASES.add(
    "adabound",
    source="Luo et al., 2019, arXiv:1902.09843",
    offers=AdaBound,
    bounds=as_texts(BOUNDS),
)
def adabound(
    params: ParamsT,
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    final_lr: float = 0.1,
    gamma: float = 1e-3,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    amsbound: bool = False,
) -> AdaBound:
    """AdaBound or AMSBound; a schedule of lr scales `final_lr` too."""
    return AdaBound(
        params,
        lr,
        betas=(beta1, beta2),
        final_lr=final_lr,
        gamma=gamma,
        eps=eps,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        amsbound=amsbound,
    )
