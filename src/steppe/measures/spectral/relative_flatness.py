"""Relative flatness: the curvature by the weight of a layer, relative to the weight.

Source: Petzka, Kamp, Adilova, Sminchisescu and Boley, 2021, arXiv:2001.00939. For the
last linear layer with cross-entropy it has a closed form from the outputs and the
features phi: the mean of |phi|^2 tr(W W' (diag(p) - p p')).

Shape letters: R rows and F columns of the weight of a layer, M random draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.errors import SettingError, UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.features import HeadCurvature
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.measuring.evaluation import head_of
from steppe.objective import Objective
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate

Variant = Literal["correct", "published", "fam"]


@MEASURES.add(
    "relative_flatness",
    source="Petzka et al., 2021, arXiv:2001.00939, relative flatness",
    units="loss",
    invariant_to=(
        "layer_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("outputs",),
    cost=Cost(forwards=1),
    cost_note="of a named layer a gradient and a Hessian product for each sample",
)
@dataclass(frozen=True, kw_only=True)
class RelativeFlatness(AbstractMeasure):
    """Curvature by a layer's weight, relative to the weight; large is sharp.

    It is the sum over pairs of rows s, t of the weight W of <w_s, w_t> tr(H_st), with
    H_st the block of the Hessian between the two rows. Kernels of a convolution are
    rows. It does not change where one layer takes a factor of another, but it does
    where single units take different ones.

    Args:
        layer: name of a layer or of its weight, such as "4" or "4.weight", to be
            measured by random draws; None for the last linear layer where it gives the
            outputs and the loss is cross-entropy or squared error, without draws.
        samples: random draws for a named layer, one Hessian product each.
        variant: "published" divides by the number F of columns, as the code of the
            authors does with traces. "fam" is the regularizer of Adilova et al., 2023,
            arXiv:2307.02337: the norm of W times the trace of the Hessian by W. Where
            W takes a factor it changes with one over that factor.
    """

    bounds: ClassVar[Ranges] = {"samples": at_least(2)}

    layer: str | None = None
    samples: int = 100
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """One pass for the last layer, the Hessian for others."""
        return [self._head()] if self.layer is None else [HessianOfLoss()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average the closed form over the samples, or quadratic forms over draws."""
        objective = measurement.objective
        name = self._name(objective)
        weight = dict(zip(objective.names, objective.params, strict=True))[name]
        W = weight.detach().double().flatten(1)
        if self.layer is None:
            values = torch.tensor(
                [measurement.of(self._head())], dtype=torch.float64, device="cpu"
            )
            values = values + self._of_penalty(objective, weight, W)
        else:
            values = self._draws(measurement, name, W)
        values = values * self._factor(W)
        count = len(values) if self.layer is not None else 0
        return Estimate(
            value=float(values.mean()),
            stderr=float(values.std()) / count**0.5 if count else 0.0,
            samples=count,
            converged=bool(values.isfinite().all()),
            details={
                "weight": name,
                "method": "Hessian products" if count else "closed form",
            },
        )

    def _head(self) -> HeadCurvature:
        return HeadCurvature(weighted=self.variant != "fam")

    def _factor(self, W: Tensor) -> float:
        """Factor of the variant."""
        if self.variant == "published":
            return 1 / W.shape[1]
        return float(W.norm()) if self.variant == "fam" else 1.0

    def _of_penalty(self, objective: Objective, weight: Tensor, W: Tensor) -> float:
        """The part of a penalty, whose Hessian is a multiple of the identity."""
        if objective.penalty is None:
            return 0.0
        size = float(W.square().sum()) if self.variant != "fam" else len(W)
        return objective.penalty.curvature(weight) * W.shape[1] * size

    def _draws(self, measurement: Measurement, name: str, W: Tensor) -> Tensor:
        """Values whose mean is the sum over pairs of rows, shape (M,), float64."""
        hessian = measurement.of(HessianOfLoss())
        source, values = self.stream(measurement), []
        for _ in range(self.samples):
            # Signs y of the columns and z: the mean of (W z)(W z)' is W W'.
            if self.variant == "fam":
                direction = _signs(W.shape, source, W)
            else:
                z, y = (_signs((W.shape[1],), source, W) for _ in "zy")
                direction = torch.outer(W @ z, y)
            vector = torch.zeros(hessian.shape[0], dtype=hessian.dtype, device=W.device)
            vector[hessian.slices[name]] = direction.flatten().to(vector)
            image = hessian @ vector
            values.append(image.double() @ vector.double())
        return torch.stack(values).cpu()

    def _name(self, objective: Objective) -> str:
        """Name of the weight to measure."""
        if self.layer is None:
            head = head_of(objective.model)
            name = f"{head[0]}.weight".removeprefix(".") if head else ""
            every = objective.model.named_parameters(remove_duplicate=False)
            places = [n for n, p in every if head and p is head[1].weight]
            if name not in objective.names or len(places) > 1:
                raise UsageError(
                    "relative flatness needs a last linear layer with a weight of its "
                    "own that requires a gradient, which this network has not; name a "
                    "layer with layer=."
                )
            return name
        for name in (self.layer, f"{self.layer}.weight"):
            if name in objective.names:
                weight = objective.params[objective.names.index(name)]
                if weight.dim() > 1:
                    return name
        raise SettingError(
            "layer must be the name of a layer or weight of two dimensions or more "
            f"among {', '.join(objective.names)}, got {self.layer!r}."
        )


def _signs(shape: Sequence[int], source: torch.Generator, like: Tensor) -> Tensor:
    bits = torch.randint(2, tuple(shape), generator=source, device=source.device)
    return (2 * bits - 1).to(like)
