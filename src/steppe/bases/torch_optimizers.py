"""torch's own optimizers by name, with the settings people vary."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from steppe.bases.abstract import BASES, FROM_ZERO, GRADIENT, MOMENTUM, TEXT_MOMENTS
from steppe.errors import SettingError


@BASES.add(
    "sgd", source="Robbins and Monro, 1951; momentum of Polyak, 1964", bounds=MOMENTUM
)
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


@BASES.add("adam", source="Kingma and Ba, 2015, arXiv:1412.6980", bounds=TEXT_MOMENTS)
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


@BASES.add(
    "adamw", source="Loshchilov and Hutter, 2019, arXiv:1711.05101", bounds=TEXT_MOMENTS
)
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


@BASES.add("adagrad", source="Duchi et al., 2011, JMLR 12", bounds=GRADIENT)
def adagrad(
    params: Iterable[Parameter], *, lr: float = 0.01, weight_decay: float = 0.0
) -> Optimizer:
    """Adagrad."""
    return torch.optim.Adagrad(params, lr, weight_decay=weight_decay)


@BASES.add(
    "rmsprop",
    source="Tieleman and Hinton, 2012, lecture 6.5",
    bounds={**MOMENTUM, "alpha": FROM_ZERO, "eps": FROM_ZERO},
)
def rmsprop(
    params: Iterable[Parameter],
    *,
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> Optimizer:
    """RMSprop."""
    return torch.optim.RMSprop(
        params, lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay
    )


@BASES.add(
    "muon",
    source="Jordan et al., 2024; step size of Liu et al., 2025, arXiv:2502.16982",
    bounds={**TEXT_MOMENTS, "momentum": FROM_ZERO},
)
def muon(
    params: Iterable[Parameter],
    *,
    lr: float = 1e-3,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> list[Optimizer]:
    """Muon for hidden matrices, AdamW for all else.

    Muon's steps are as large as AdamW's, so one lr and one weight decay serve both.
    The first and the last weight with more than one dimension are the input and the
    output layer; of those between, convolution kernels go to AdamW.

    Raises:
        SettingError: a network without a hidden matrix, or a torch without Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise SettingError(
            f"torch must be 2.9 or later for Muon, this is {torch.__version__}; update "
            "it or take adamw."
        )
    params = list(params)
    between = [p for p in params if p.dim() > 1][1:-1]
    matrices = [p for p in between if p.dim() == 2]
    if not matrices:
        raise SettingError(
            "the network must have a matrix between its first and last layer, got "
            "none; take adamw, or a deeper network of fully connected layers."
        )
    chosen = set(matrices)
    return [
        torch.optim.Muon(
            matrices,
            lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [p for p in params if p not in chosen],
            lr,
            betas=(beta1, beta2),
            eps=eps,
            weight_decay=weight_decay,
        ),
    ]
