"""The ascent and descent calls of the authors' ASAM code.

::

    loss_fn(model(x), y).backward()
    minimizer.ascent_step()
    loss_fn(model(x), y).backward()
    minimizer.descent_step()

The signatures are those of github.com/SamsungLabs/ASAM, where `SAM` has the arguments
of `ASAM`. Both calls clear the gradients.

Differences from that code: batch norm's running statistics are those of the first pass;
parameters that the base optimizer does not hold stay unmoved; the norm is held away
from zero by 1e-12 instead of 1e-16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from steppe.compat.two_call import TwoCall
from steppe.optimizers import asam, sam
from steppe.stepping.driver import AbstractOptimizer


class _Minimizer:
    """Two calls around a base optimizer that the caller has made.

    Args:
        optimizer: the base.
        wrapped: the steppe optimizer around it.
    """

    def __init__(self, optimizer: Optimizer, wrapped: AbstractOptimizer) -> None:
        self.optimizer = optimizer
        self.calls = TwoCall(wrapped)  # an Optimizer, for `GradScaler` and `finish()`

    def ascent_step(self) -> None:
        """Take an ascent step along `p.grad`; clear the gradients."""
        self.calls.first_step(zero_grad=True)

    def descent_step(self) -> None:
        """Put the weights back and let the base step; clear the gradients."""
        self.calls.second_step(zero_grad=True)

    def state_dict(self) -> dict[str, Any]:
        """State of the base and of the method."""
        return self.calls.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, or from one of the base alone."""
        self.calls.load_state_dict(state_dict)


class ASAM(_Minimizer):
    """ASAM as its authors' code calls it.

    Args:
        optimizer: the base.
        model: scaled are its parameters with "weight" in their name.
        rho: radius relative to the weights, >= 0.
        eta: added to the size of the weights, >= 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        rho: float = 0.5,
        eta: float = 0.01,
    ) -> None:
        method = asam.ASAM(optimizer, rho=rho, eta=eta, style="samsung", model=model)
        super().__init__(optimizer, method)


class SAM(_Minimizer):
    """SAM with the arguments of `ASAM`.

    Args:
        optimizer: the base.
        model: whose running statistics stay those of the first pass.
        rho: radius, in the units of the parameters, >= 0.
        eta: of `ASAM`; accepted and without a meaning, as there.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: nn.Module,
        rho: float = 0.5,
        eta: float = 0.01,
    ) -> None:
        super().__init__(optimizer, sam.SAM(optimizer, rho=rho, model=model))
