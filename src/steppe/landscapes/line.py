"""Lines through parameter space: a base point and a direction.

Source: Li et al., 2018, arXiv:1712.09913.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.landscapes.buffers import buffers_of, check_same, shapes
from steppe.landscapes.directions import Ignore, Norm, random_direction
from steppe.parameters import between, check_model, trainable


@dataclass(frozen=True, kw_only=True, repr=False)
class Line:
    """Points `base + coordinate * direction`; the tensors are copies."""

    names: tuple[str, ...]  # P parameter names
    base: tuple[Tensor, ...]  # P tensors
    direction: tuple[Tensor, ...]  # P tensors shaped like `base`
    end: tuple[Tensor, ...] | None = None  # P tensors at 1; None for base + direction
    buffers: Mapping[str, Tensor] = field(default_factory=dict)  # at 0, by name
    end_buffers: Mapping[str, Tensor] | None = None  # at 1; None for those at 0
    details: Mapping[str, Any] = field(default_factory=dict)  # how it was made

    def __repr__(self) -> str:
        """How it was made, and through how many parameters: one line, no weights."""
        made = "".join(f"{name}={value!r}, " for name, value in self.details.items())
        count = sum(tensor.numel() for tensor in self.base)
        return f"Line({made}parameters={count})"

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
        named = trainable(model)
        base = [p.detach().clone() for p in named.values()]
        direction = random_direction(base, norm, ignore, seed)
        return cls(
            names=tuple(named),
            base=tuple(base),
            direction=tuple(direction),
            buffers=buffers_of(model),
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

        It moves the parameters that require a gradient in `model_a`, and buffers of
        floating-point numbers, such as the running statistics of batch norm, with them:
        both ends are the two models bit for bit (see `landscape` for other ways). All
        other buffers are those of `model_a`, at 1 and beyond those of `model_b`. The
        vectors of a spectral norm move like statistics, though between the ends they
        are not those of the weights: its networks are true at the ends alone.

        Raises:
            SettingError: the models differ in the names or shapes of parameters or
                buffers, or in the values of a parameter that is frozen in `model_a`.
        """
        check_model(model_a, "model_a")
        check_model(model_b, "model_b")
        a, b = trainable(model_a), dict(model_b.named_parameters())
        own = dict(model_a.named_parameters())
        check_same(shapes(own), shapes(b), "parameters")
        buffers, end_buffers = buffers_of(model_a), buffers_of(model_b)
        check_same(shapes(buffers), shapes(end_buffers), "buffers")
        for name in own.keys() - a.keys():
            if not torch.equal(own[name], b[name].to(own[name])):
                raise SettingError(
                    f"the line moves no frozen parameter, but {name} differs between "
                    "the models; let it require a gradient, or give both one value."
                )
        base = tuple(p.detach().clone() for p in a.values())
        # Copies: base + (end - base) is not the end bit for bit.
        end = tuple(b[name].detach().to(p, copy=True) for name, p in a.items())
        return cls(
            names=tuple(a),
            base=base,
            direction=tuple(e - p for e, p in zip(end, base, strict=True)),
            end=end,
            buffers=buffers,
            end_buffers={k: v.to(buffers[k]) for k, v in end_buffers.items()},
            details={"subspace": "between"},
        )

    def point(self, coordinate: float) -> list[Tensor]:
        """Parameters at a coordinate, P tensors."""
        if coordinate == 1 and self.end is not None:
            return [e.clone() for e in self.end]
        pairs = zip(self.base, self.direction, strict=True)
        return [torch.add(b, d, alpha=coordinate) for b, d in pairs]

    def changed_buffers(self, coordinate: float) -> dict[str, Tensor]:
        """Buffers that are others at a coordinate than at 0, by name."""
        if self.end_buffers is None or coordinate <= 0:
            return {}
        ends = self.end_buffers
        return {
            name: between(start, ends[name], coordinate)
            for name, start in self.buffers.items()
            if not torch.equal(start, ends[name])
        }
