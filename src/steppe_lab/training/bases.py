"""Base optimizers by name: torch's own, with the settings people vary."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from steppe.registry import Registry, Spec

BASES: Registry[Spec] = Registry("base optimizer", Spec)


@BASES.add("sgd", source="Robbins and Monro, 1951; momentum of Polyak, 1964")
def sgd(
    params: Iterable[Parameter],
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(
        params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )


@BASES.add("adam", source="Kingma and Ba, 2015, arXiv:1412.6980")
def adam(
    params: Iterable[Parameter],
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Adam; weight decay is added to the gradient."""
    return torch.optim.Adam(
        params, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay
    )


@BASES.add("adamw", source="Loshchilov and Hutter, 2019, arXiv:1711.05101")
def adamw(
    params: Iterable[Parameter],
    *,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay."""
    return torch.optim.AdamW(
        params, lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay
    )


@BASES.add("adagrad", source="Duchi et al., 2011, JMLR 12")
def adagrad(
    params: Iterable[Parameter], *, lr: float = 0.01, weight_decay: float = 0.0
) -> Optimizer:
    """Adagrad."""
    return torch.optim.Adagrad(params, lr, weight_decay=weight_decay)
