"""Flatness of the adversarial loss, on average and at worst.

Source: Stutz, Hein and Schiele, 2021, arXiv:2104.04448, and the examples of their code.

Shape letters: P parameter tensors, B rows of a batch, M random draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.adversarial.auto_pgd import auto_pgd
from steppe.adversarial.balls import Ball, Norm
from steppe.cost import Cost
from steppe.errors import DataError, SettingError, UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.noise import gaussian_noise
from steppe.objective import Objective
from steppe.parameters import overwrite_, restored
from steppe.registry.bounds import FINITE, POSITIVE, Ranges, at_least
from steppe.results import Estimate
from steppe.vectors import joint_norm

Case = Literal["average", "worst"]
XI: dict[str, float] = {"average": 0.5, "worst": 0.003}  # of the authors' examples


@MEASURES.add(
    "robust_flatness",
    source="Stutz et al., 2021, arXiv:2104.04448",
    units="loss",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    cost=Cost(gradients=231),
    cost_note="(samples + 1) (attack_steps + 1); (weight_steps + 1) (attack_steps + 2)"
    " for the worst case",
)
@dataclass(frozen=True, kw_only=True)
class RobustFlatness(AbstractMeasure):
    """Robust flatness: the rise of the adversarial loss under changes of the weights.

    The adversarial loss of a sample is the largest one over changes of its input with
    ||delta||_p <= epsilon. The value is its mean at w + nu less that at w: the average
    over random nu of relative length ||nu_l|| = xi ||w_l|| in every parameter tensor l,
    or the largest over all ||nu_l|| <= xi ||w_l||. Both maxima are those of Auto-PGD
    and lower bounds of the true ones. Inputs must be floating tensors, and each row
    must have a loss term. In mode "train", where rows may share statistics, each has
    the loss with which it did worst, while the others changed too.

    Differences from the published code: attacks are by Auto-PGD from the input itself,
    in place of projected gradient ascent from a random start; for the worst case,
    inputs are attacked anew at every step of the weights, in place of one step of both;
    the weights of normalisation layers change like all others, where the code leaves
    them out (freeze them to do so); a layer is a parameter tensor.

    Args:
        case: "average" over random changes of the weights, or "worst".
        xi: relative length of the change of a parameter tensor; None for the authors'
            0.5 (average) or 0.003 (worst).
        epsilon: radius of the attack, in the units of the inputs.
        p: norm of the attack, "2" of all entries of an input, or "inf" for the largest.
        low: the least value of an entry of an input; None for no bound.
        high: the largest one; None for no bound.
        samples: random changes of the weights M, at least 2; for "average".
        attack_steps: of Auto-PGD on inputs.
        weight_steps: of Auto-PGD on weights; for "worst".
    """

    bounds: ClassVar[Ranges] = {
        "xi": POSITIVE,
        "epsilon": POSITIVE,
        "low": FINITE,
        "high": FINITE,
        "samples": at_least(2),
        "attack_steps": at_least(1),
        "weight_steps": at_least(1),
    }

    case: Case = "average"
    xi: float | None = None
    epsilon: float = 8 / 255
    p: Norm = "inf"
    low: float | None = None
    high: float | None = None
    samples: int = 10
    attack_steps: int = 20
    weight_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise SettingError(
                f"low must be below high, got {self.low} and {self.high}."
            )

    @property
    def radius(self) -> float:
        """Relative length of the change of a parameter tensor."""
        return XI[self.case] if self.xi is None else self.xi

    def needs(self) -> Sequence[Need[Any]]:
        """None that others have."""
        return []

    def estimate(self, measurement: Measurement) -> Estimate:
        """Attack the inputs at the weights, and at others around them."""
        objective = measurement.objective
        objective.check_repeatable()
        objective.count()  # refuses data without a loss term
        with objective.measuring(), restored(objective.params) as centre:
            measured = self._average if self.case == "average" else self._worst
            return measured(measurement, centre)

    def _average(self, measurement: Measurement, centre: list[Tensor]) -> Estimate:
        objective = measurement.objective
        base, _ = self._adversarial(measurement, differentiate=False)
        losses = []
        for draw in range(self.samples):
            source = measurement.stream("robust_flatness", draw)
            noise = gaussian_noise(centre, 1.0, source).draw()
            moved = []
            for c, z in zip(centre, noise, strict=True):
                length = self.radius * joint_norm([c]) / joint_norm([z])
                moved.append(c + length.to(c) * z)
            overwrite_(objective.params, moved)
            losses.append(self._adversarial(measurement, differentiate=False)[0])
        rises = torch.stack(losses).cpu() - base.cpu()
        return Estimate(
            value=float(rises.mean()),
            stderr=float(rises.std()) / self.samples**0.5,
            samples=self.samples,
            converged=bool(torch.isfinite(rises).all()),
            details={"adversarial_loss": float(base), "relative_length": self.radius},
        )

    def _worst(self, measurement: Measurement, centre: list[Tensor]) -> Estimate:
        objective = measurement.objective

        def evaluate(delta: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            pairs = zip(centre, delta, strict=True)
            overwrite_(objective.params, [c + d for c, d in pairs])
            return self._adversarial(measurement, differentiate=True)

        ball = Ball(
            like=centre,
            radius=self.radius,
            share="tensor",
            scale=[joint_norm([c]).to(c) for c in centre],
        )
        source = measurement.stream("robust_flatness")
        ascent = auto_pgd(evaluate, ball, steps=self.weight_steps, generator=source)
        value = float(ascent.losses - ascent.start)
        return Estimate(
            value=value,
            converged=math.isfinite(value),
            details={
                "adversarial_loss": float(ascent.start),
                "relative_length": self.radius,
            },
        )

    def _adversarial(
        self, measurement: Measurement, differentiate: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Mean loss under attack at the present weights, float64, and its gradient."""
        objective = measurement.objective
        objective.renew_statistics()  # the weights may have moved
        total, terms = torch.zeros((), dtype=torch.float64, device="cpu"), 0
        gradient = [torch.zeros_like(p) for p in objective.params]
        for index in range(len(objective.batches)):
            source = measurement.stream("attack")  # whatever batch a sample is in
            losses, changed = self._attack(objective, index, source)
            total = total.to(losses.device) + losses.sum()
            terms += losses.numel()
            if differentiate:
                # The gradient of a maximum is that at the point where it is taken.
                slopes = _slopes(objective, index, changed, objective.params)[1]
                torch._foreach_add_(gradient, slopes)
        torch._foreach_div_(gradient, float(terms))
        if objective.penalty is not None:
            for g, p in zip(gradient, objective.params, strict=True):
                g.add_(p.detach(), alpha=objective.penalty.curvature(p))
        passes = self.attack_steps + 1 + differentiate
        objective.cost += Cost(gradients=passes)
        return total / terms + objective.penalty_value(), gradient

    def _attack(
        self, objective: Objective, index: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Largest losses of the rows of a batch, and the inputs that have them."""
        inputs = _inputs(objective.batch(index))

        def evaluate(delta: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            changed = (inputs + delta[0]).requires_grad_()
            losses, slopes = _slopes(objective, index, changed, [changed])
            return losses.double(), slopes

        ball = Ball(
            like=[inputs],
            radius=self.epsilon,
            norm=self.p,
            share="row",
            low=self._room(inputs, self.low, "low"),
            high=self._room(inputs, self.high, "high"),
        )
        ascent = auto_pgd(evaluate, ball, steps=self.attack_steps, generator=source)
        return ascent.losses, inputs + ascent.displacement[0]

    def _room(
        self, inputs: Tensor, bound: float | None, name: str
    ) -> list[Tensor] | None:
        """The way from the inputs to a bound."""
        if bound is None:
            return None
        room = bound - inputs
        if bool((room > 0 if name == "low" else room < 0).any()):
            raise DataError(
                f"inputs of robust_flatness must lie within {name}={bound:g}, but some "
                f"do not; give a {name} in the units of the inputs, or leave it out."
            )
        return [room]


def _inputs(batch: Any) -> Tensor:
    """The inputs of a batch (inputs, targets) of tensors."""
    first = batch[0] if isinstance(batch, tuple | list) and batch else None
    if (
        not isinstance(first, Tensor)
        or not first.is_floating_point()
        or first.dim() < 2
    ):
        raise UsageError(
            "robust_flatness changes inputs, which must be floating tensors with a row "
            "for each sample in batches (inputs, targets); measure another network, or "
            "leave robust_flatness out."
        )
    return first.detach()


def _slopes(
    objective: Objective, index: int, inputs: Tensor, by: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Losses of the rows of a batch with other inputs, and gradients of their sum."""
    batch = objective.batch(index)  # anew, for the random masks of mode "train"
    make = getattr(type(batch), "_make", type(batch))  # of a named tuple
    changed = make([inputs, *batch[1:]])
    with torch.enable_grad():
        losses = objective.losses_on(changed)
        if losses.shape != inputs.shape[:1]:
            raise UsageError(
                "robust_flatness needs one loss term for each row of the inputs, got "
                f"{losses.numel()} for {len(inputs)} rows; average the terms of a row "
                "in a function loss(model, batch)."
            )
        if not losses.requires_grad:
            return losses.detach(), [torch.zeros_like(t) for t in by]
        slopes = torch.autograd.grad(losses.sum(), by, materialize_grads=True)
    return losses.detach(), [s.detach() for s in slopes]
