"""Local learning coefficient: the rise of the loss under its own posterior.

Source: Lau et al., 2023, arXiv:2308.12108, with stochastic gradient Langevin dynamics
(Welling and Teh, 2011, ICML).

Shape letters: N loss terms, C chains, T draws of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.errors import (
    SteppeError,
    UsageError,
    check_choice,
    check_positive,
)
from steppe.linalg.chains import (
    LEAST_DRAWS,
    effective_samples,
    error_of_chains,
    rank_rhat,
)
from steppe.linalg.lanczos import Target
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.points.langevin import Chain, LangevinChain
from steppe.measures.needs.spectrum.curvature import ScaledHessian
from steppe.measures.needs.spectrum.krylov import LEAST, extreme_pair
from steppe.registry.bounds import POSITIVE, Range, Ranges, at_least
from steppe.results import Estimate

LARGEST_RHAT = 1.1
LARGEST_BIAS = 0.1  # as a share of the value
TRACE = 200  # losses of a chain among the details, at most


@MEASURES.add(
    "llc",
    source="Lau et al., 2023, arXiv:2308.12108",
    units="half the effective number of parameters",
    invariant_to=("unit_permutation",),
    needs=("outputs", "Hessian", "Lanczos run", "minibatches", "SGLD chains"),
    cost=Cost(forwards=1, gradients=2001, products=20),
    cost_is="at most",
    cost_note="chains times steps, times the share of the data in a minibatch; the "
    "products are those of lr=None",
)
@dataclass(frozen=True, kw_only=True)
class LLC(AbstractMeasure):
    """Local learning coefficient: nbeta times the rise of the loss under its posterior.

    The posterior is exp(-nbeta L(w) - gamma/2 |w - w*|^2) around the parameters w*, and
    SGLD draws from it. At a minimum with curvatures h the value is the sum of
    nbeta h / (nbeta h + gamma) / 2, half of an effective number of parameters. A
    negative value says that w* is no minimum.

    A step of finite size widens the draws. The detail `step_bias` is by how much that
    raises the value: exact for quadratic losses, with the noise of minibatches, which
    it takes for more than it is where gamma is above 0. It is not subtracted. The value
    has not converged where chains disagree (R-hat above 1.1) or where that bias is more
    than a tenth of the value. The standard error is that of the draws there are:
    directions that a chain of this length does not explore are missing from it.

    Differences from the paper: L(w*) is the loss on all of the data, and the losses of
    minibatches are compared with those of the same minibatches at w*. Minibatches are
    rows drawn anew in every step.

    Args:
        lr: size of a step, in squared units of the parameters. Below 4 over the largest
            nbeta h + gamma, chains do not diverge; None for 1 over that, with h from 20
            Lanczos steps over all parameters. A direction of curvature h needs some
            1 / (lr (nbeta h + gamma)) steps to spread.
        gamma: strength of the pull towards w*, per squared unit of the parameters.
        nbeta: weight of the mean loss: "n" for N / log N of all loss terms, as in the
            literature, "batch" for the same of the batch size, as in other software,
            or a number. Values of different weights are not comparable.
        chains: number C of chains, each of which begins at w*.
        draws: number T of draws of each chain, at least 4.
        burn_in: steps of each chain before the first draw.
        batch_size: rows of a minibatch; 0 for all of the data.
        parameters: pattern of the names of parameters that move, such as "layer1.*".
        half_step: measure a second time with half the step and as much time, for the
            details.
    """

    bounds: ClassVar[Ranges] = {
        "lr": POSITIVE,
        "gamma": Range(0.0),
        "chains": at_least(1),
        "draws": at_least(LEAST_DRAWS),
        "burn_in": at_least(0),
        "batch_size": at_least(0),
    }

    lr: float | None = None
    gamma: float = 100.0
    nbeta: float | Literal["n", "batch"] = "n"
    chains: int = 4
    draws: int = 300
    burn_in: int = 200
    batch_size: int = 256
    parameters: str = "*"
    half_step: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.nbeta, str):
            check_choice("nbeta", self.nbeta, ("n", "batch"))
        else:
            check_positive("nbeta", self.nbeta)

    def needs(self) -> Sequence[Need[Any]]:
        """The loss in the middle, and the Hessian where it gives the step."""
        return [LossTerms(), *([] if self.lr else [ScaledHessian()])]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Walk, average, subtract; the standard error is over the draws."""
        objective = measurement.objective
        objective.check_repeatable()
        base = objective.value_of(measurement.of(LossTerms())).value
        if not math.isfinite(base):
            raise UsageError(
                f"the loss must be finite at the parameters to sample around them, got "
                f"{base}; look at the data and the weights."
            )
        nbeta = self._weight(objective.count())
        lr = self.lr or self._step(measurement, nbeta)
        chains = measurement.of_all(self._chains(nbeta, lr))
        draws = self._draws(chains)
        rises = nbeta * (draws - base)
        value, error = float(rises.mean()), error_of_chains(rises)
        rhat, effective = rank_rhat(draws), effective_samples(draws)
        powers = torch.stack([chain.powers[self.burn_in :] for chain in chains])
        bias = lr / 8 * float(powers.mean())
        agree = rhat <= LARGEST_RHAT and abs(bias) <= LARGEST_BIAS * abs(value)
        return Estimate(
            value=value,
            stderr=error,
            samples=max(2, min(int(effective), draws.numel())),
            converged=agree,
            details={
                "nbeta_value": nbeta,
                "lr_used": lr,
                "base_loss": base,
                "rhat": rhat,
                "effective_samples": effective,
                "step_bias": bias,
                **(
                    self._halved(measurement, nbeta, lr, base) if self.half_step else {}
                ),
                "minibatches": chains[0].minibatches,
                "moved_parameters": chains[0].parameters,
                **_traces(chains),
            },
        )

    def _weight(self, terms: int) -> float:
        """The weight nbeta of the mean loss."""
        if not isinstance(self.nbeta, str):
            return float(self.nbeta)
        size = self.batch_size if self.nbeta == "batch" and self.batch_size else terms
        if size < 2:
            raise UsageError(
                f"nbeta='{self.nbeta}' needs at least 2 loss terms for n / log n, got "
                f"{size}; give more data or a number, such as nbeta=10."
            )
        return size / math.log(size)

    def _step(self, measurement: Measurement, nbeta: float) -> float:
        """A quarter of the largest stable step, for the curvatures of the Hessian."""
        target = Target(1, "LA", tol=0.1, budget=LEAST, least=LEAST)
        try:
            pairs, _ = extreme_pair(measurement, target)
        except SteppeError as error:
            raise UsageError(
                "lr=None needs the largest eigenvalue of the Hessian, which this "
                "network and loss do not allow; give a number, such as lr=1e-6."
            ) from error
        # No Ritz value is above the eigenvalue; with its residual it rarely is below.
        curvature = max(float((pairs.values + pairs.residuals)[0]), 0.0)
        stiffness = nbeta * curvature + self.gamma
        if not stiffness:
            raise UsageError(
                "lr=None needs a gamma above 0 where no curvature is positive, got 0; "
                "give a gamma or an lr."
            )
        return 1 / stiffness

    def _chains(
        self, nbeta: float, lr: float, halvings: int = 0
    ) -> list[LangevinChain]:
        """Chains with the step halved some times; each has draws of its own."""
        factor = 2**halvings
        return [
            LangevinChain(
                number=number + halvings * self.chains,
                steps=factor * (self.burn_in + self.draws),
                lr=lr / factor,
                nbeta=nbeta,
                gamma=self.gamma,
                batch_size=self.batch_size,
                parameters=self.parameters,
            )
            for number in range(self.chains)
        ]

    def _draws(self, chains: Sequence[Chain]) -> Tensor:
        """Losses after the burn-in, one for each full step, shape (C, T)."""
        losses = torch.stack([chain.losses for chain in chains])
        every = losses.shape[1] // (self.burn_in + self.draws)
        return losses[:, ::every][:, self.burn_in :]

    def _halved(
        self, measurement: Measurement, nbeta: float, lr: float, base: float
    ) -> dict[str, float]:
        """The same value from steps of half the size."""
        chains = measurement.of_all(self._chains(nbeta, lr, halvings=1))
        rises = nbeta * (self._draws(chains) - base)
        return {
            "half_step_value": float(rises.mean()),
            "half_step_stderr": error_of_chains(rises),
        }


def _traces(chains: Sequence[Chain]) -> dict[str, Any]:
    """Losses of each chain from its start, of every so many steps."""
    every = math.ceil(len(chains[0].losses) / TRACE)
    traces = [chain.losses[::every].tolist() for chain in chains]
    return {"traces": traces, "trace_every": every}
