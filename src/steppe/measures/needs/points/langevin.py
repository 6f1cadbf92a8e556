"""Chains of stochastic gradient Langevin dynamics (SGLD) around the parameters.

Source: Welling and Teh, 2011, ICML, with a constant step; the pull towards
the start is that of Lau et al., 2023, arXiv:2308.12108.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.minibatches import Kind, MinibatchesOf
from steppe.noise import gaussian_noise
from steppe.parameters import matching, restored
from steppe.results import Cost
from steppe.vectors import joint_dot

LOOK = 50  # steps between two looks at whether a chain has diverged


class Chain(NamedTuple):
    """Numbers of every step, shape (steps,), float64, on the host."""

    losses: Tensor  # before the step; the first is the loss at the parameters
    powers: Tensor  # inner products of the force and its part from the loss
    minibatches: Kind  # parts of the data that gradients come from
    parameters: int  # number of those that move


@dataclass(frozen=True)
class LangevinChain(Need[Chain]):
    """A chain that samples exp(-nbeta L(w) - gamma/2 |w - w*|^2) for small steps.

    A step is w -= lr/2 (nbeta grad L + gamma (w - w*)) - sqrt(lr) z, with z standard
    normal. Chain number m has the same z for all settings.

    Args:
        number: of the chain, from 0.
        steps: of the chain, which begins at the parameters w*.
        lr: size of a step, in squared units of the parameters.
        nbeta: weight of the mean loss.
        gamma: strength of the pull towards w*, per squared unit of the parameters.
        batch_size: rows of a minibatch; 0 for all of the data.
        parameters: pattern of the names of those that move.
    """

    kind: ClassVar[str] = "SGLD chains"

    number: int
    steps: int
    lr: float
    nbeta: float
    gamma: float
    batch_size: int
    parameters: str

    def serve(self, measurement: Measurement) -> Chain:
        """Walk, and return to the parameters.

        Raises:
            SettingError: no parameter has a name that matches.
            UsageError: the chain diverges.
        """
        objective = measurement.objective
        minibatches = measurement.of(MinibatchesOf(self.batch_size))
        names = matching(objective.names, self.parameters)
        named = zip(objective.names, objective.params, strict=True)
        chosen: list[Tensor] = [p for name, p in named if name in names]
        losses: list[Tensor] = []
        powers: list[Tensor] = []
        batch_source = measurement.stream("SGLD minibatches", self.number)
        source = measurement.stream("SGLD", self.number)
        with objective.measuring(), restored(chosen) as centre:
            noise = gaussian_noise(chosen, self.lr**0.5, source)
            for step in range(self.steps):
                if step % LOOK == 0 and losses and not losses[-1].isfinite():
                    break  # looking in every step would wait for a GPU
                loss, gradient = minibatches.gradient(chosen, batch_source)
                with torch.no_grad():
                    torch._foreach_mul_(gradient, self.nbeta)
                    force = torch._foreach_sub(chosen, centre)
                    torch._foreach_mul_(force, self.gamma)
                    torch._foreach_add_(force, gradient)
                    losses.append(loss)
                    powers.append(joint_dot(force, gradient))
                    torch._foreach_mul_(force, -self.lr / 2)
                    torch._foreach_add_(force, chosen)
                    noise.put_(chosen, list(force))
        objective.cost += Cost(gradients=len(losses) * minibatches.share)
        return Chain(
            losses=self._finite(torch.stack(losses).cpu()),
            powers=torch.stack(powers).double().cpu(),
            minibatches=minibatches.kind,
            parameters=sum(p.numel() for p in chosen),
        )

    def _finite(self, losses: Tensor) -> Tensor:
        wrong = (~losses.isfinite()).nonzero()
        if len(wrong):
            step = int(wrong[0])
            raise UsageError(
                f"the chain diverged, with the loss {float(losses[step])} at step "
                f"{step} of {self.steps}: lr (nbeta h + gamma) must be below 4 for the "
                f"largest curvature h, got lr={self.lr:g}; give a smaller one, such as "
                f"lr={self.lr / 10:g}."
            )
        return losses
