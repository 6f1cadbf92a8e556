"""Lines through parameter space: a base point and a direction.

Source: Li et al., 2018, arXiv:1712.09913, and the published code: one standard normal
draw per tensor, each filter scaled to the norm of the parameters' own. As there,
tensors of at most one dimension (biases, batch norm) stay put, or are their own
direction with ignore="none".

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.parameters import trainable
from steppe.perturb import filter_scales

Norm = Literal["filter", "layer", "none"]
Ignore = Literal["biasbn", "none"]

TINY = 1e-10  # added to norms in the published code, so that a zero divides nothing


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points `base + coordinate * direction`; the tensors are copies."""

    names: tuple[str, ...]  # P parameter names
    base: tuple[Tensor, ...]  # P tensors
    direction: tuple[Tensor, ...]  # P tensors shaped like `base`
    details: Mapping[str, Any] = field(default_factory=dict)  # how it was made

    @classmethod
    def random(
        cls,
        model: nn.Module,
        norm: Norm = "filter",
        ignore: Ignore = "biasbn",
        seed: int = 0,
    ) -> Line:
        """A random line through the parameters of a model.

        Args:
            model: its parameters that require a gradient are the base point.
            norm: "filter" gives each output row the norm of the parameters' own row,
                "layer" each tensor the norm of its own, "none" keeps the normal draw.
            ignore: "biasbn" leaves tensors of at most one dimension where they are;
                "none" makes each of those its own direction.
            seed: of the draw, whatever was drawn before.

        Raises:
            SettingError: an unknown norm or ignore.
        """
        _check("norm", norm, get_args(Norm))
        _check("ignore", ignore, get_args(Ignore))
        named = trainable(model)
        base = [p.detach().clone() for p in named.values()]
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            torch.randn(p.shape, generator=generator).to(device=p.device, dtype=p.dtype)
            for p in base
        ]
        scaled = _scaled(drawn, base, norm)
        flat = [torch.zeros_like(p) if ignore == "biasbn" else p.clone() for p in base]
        direction = [
            d if p.dim() > 1 else f for p, d, f in zip(base, scaled, flat, strict=True)
        ]
        return cls(
            names=tuple(named),
            base=tuple(base),
            direction=tuple(direction),
            details={
                "subspace": "random",
                "norm": norm,
                "ignore": ignore,
                "seed": seed,
            },
        )

    @classmethod
    def between(cls, model_a: nn.Module, model_b: nn.Module) -> Line:
        """The line from one model (coordinate 0) to another (coordinate 1).

        It moves the parameters that require a gradient in `model_a`. Buffers, such as
        the statistics of batch norm, stay those of the model that the objective
        measures: where they differ, coordinate 1 is not quite the other model.

        Raises:
            SettingError: the models differ in the names or shapes of parameters, or in
                the values of one that is frozen in `model_a`.
        """
        a, b = trainable(model_a), dict(model_b.named_parameters())
        own = dict(model_a.named_parameters())
        check_same(
            {k: v.shape for k, v in own.items()}, {k: v.shape for k, v in b.items()}
        )
        for name in own.keys() - a.keys():
            if not torch.equal(own[name], b[name].to(own[name])):
                raise SettingError(
                    f"the line moves no frozen parameter, but {name} differs between "
                    "the models; let it require a gradient, or give both one value."
                )
        base = tuple(p.detach().clone() for p in a.values())
        ends = [b[name].detach().to(p) for name, p in a.items()]
        direction = tuple(e - p for e, p in zip(ends, base, strict=True))
        details = {"subspace": "between"}
        return cls(names=tuple(a), base=base, direction=direction, details=details)

    def point(self, coordinate: float) -> list[Tensor]:
        """Parameters at a coordinate, P tensors."""
        pairs = zip(self.base, self.direction, strict=True)
        return [torch.add(b, d, alpha=coordinate) for b, d in pairs]


def check_same(
    wanted: Mapping[str, torch.Size], given: Mapping[str, torch.Size]
) -> None:
    """Refuse parameters of other names or shapes than those of a subspace.

    Raises:
        SettingError: the first name or shape that differs is given.
    """
    for name in [*wanted, *given]:
        left, right = wanted.get(name), given.get(name)
        if left != right:
            raise SettingError(
                f"the models must have the same parameters: {name} is {_show(left)} "
                f"in one and {_show(right)} in the other."
            )


def _scaled(
    drawn: Sequence[Tensor], base: Sequence[Tensor], norm: Norm
) -> Sequence[Tensor]:
    if norm == "none":
        return drawn
    if norm == "filter":
        pairs = zip(filter_scales(base), filter_scales(drawn), strict=True)
    else:
        pairs = zip([p.norm() for p in base], [d.norm() for d in drawn], strict=True)
    factors = [want / (have + TINY) for want, have in pairs]
    return [d * factor for d, factor in zip(drawn, factors, strict=True)]


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        listed = ", ".join(map(repr, known))
        raise SettingError(f"{name} must be one of {listed}, got {value!r}.")


def _show(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"
