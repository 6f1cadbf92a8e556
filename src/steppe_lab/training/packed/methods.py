"""The gradients that methods step with, of all members of a pack at once.

The formulas are those of the optimizers of `steppe` (`optimizers/`, `geometry/`), whose
docstrings name the papers. A member's settings are read from the groups of its own
optimizer, and its noise is drawn from the generator of it, in the same order.

Shape letters: K members, B batch, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.registry.registry import Choice
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.packed.network import AbstractPackedNetwork

Gradients = list[Tensor]


@dataclass(frozen=True)
class Pass:
    """Evaluates losses and gradients of all members on a batch of each.

    Args:
        network: of the members.
        task: gives the loss.
        inputs: (K, B, ...).
        targets: (K, B, ...).
    """

    network: AbstractPackedNetwork
    task: AbstractTask
    inputs: Any
    targets: Tensor

    def part(self, rows: slice) -> Pass:
        """The same on some rows of each batch."""
        inputs, targets = self.inputs[:, rows], self.targets[:, rows]
        return Pass(self.network, self.task, inputs, targets)

    def __call__(
        self, params: Sequence[Tensor], *, statistics: bool
    ) -> tuple[Tensor, Gradients]:
        """Mean losses (K,), and gradients (K, *shape) at the same parameters."""
        leaves = [p.detach().requires_grad_() for p in params]
        with torch.enable_grad():
            outputs = self.network(
                leaves, self.inputs, training=True, statistics=statistics
            )
            losses = losses_of(self.task, outputs, self.targets).mean(1)
            grads = torch.autograd.grad(losses.sum(), leaves)
        return losses.detach(), list(grads)


def losses_of(task: AbstractTask, outputs: Tensor, targets: Tensor) -> Tensor:
    """Losses of all terms of each member, (K, terms)."""
    flat = task.loss(outputs.flatten(0, 1), targets.flatten(0, 1), reduction="none")
    return flat.reshape(len(outputs), -1)


class PlainGradient:
    """The gradient of the base alone."""

    passes = 1.0

    def __call__(self, step: Pass, params: Sequence[Tensor], optimizers: Any) -> Any:
        return step(params, statistics=True)


class Ascent:
    """SAM and ASAM: the gradient after an ascent step of a radius of each member.

    Args:
        adaptive: whether the radius is in units of the weights.
    """

    passes = 2.0

    def __init__(self, *, adaptive: bool) -> None:
        self._adaptive = adaptive

    def __call__(
        self,
        step: Pass,
        params: Sequence[Tensor],
        optimizers: Sequence[Optimizer],
    ) -> tuple[Tensor, Gradients]:
        losses, grads = step(params, statistics=True)
        factors = self._factors(params, optimizers) if self._adaptive else {}
        for place, factor in factors.items():
            grads[place] = grads[place] * factor
        norm = joint_norms(grads)
        for place, factor in factors.items():
            grads[place] *= factor
        radius = _each("rho", optimizers, norm)
        # A norm that is not finite gives no ascent, and a gradient that is no number.
        scale = torch.where(norm.isfinite(), radius / (norm + 1e-12), 0.0)
        moved = [
            torch.addcmul(p, g, over(scale, p))
            for p, g in zip(params, grads, strict=True)
        ]
        _, grads = step(moved, statistics=False)
        grads[0] = grads[0].contiguous()
        grads[0].view(len(norm), -1)[:, 0] += norm * 0
        return losses, grads

    def _factors(
        self, params: Sequence[Tensor], optimizers: Sequence[Optimizer]
    ) -> dict[int, Tensor]:
        """|w| + eta of matrices and kernels, by the place of the parameter."""
        eta = _each("eta", optimizers, params[0])
        return {
            place: p.abs() + over(eta, p)
            for place, p in enumerate(params)
            if p.dim() > 2  # of all members: one dimension more
        }


class Smoothing:
    """LPF-SGD: the mean gradient over shares of the batch, each at noise of its own.

    Args:
        parts: shares of a batch, at most.
        antithetic: whether every second draw is the one before it, negated.
    """

    passes = 1.0

    def __init__(self, *, parts: int, antithetic: bool) -> None:
        self._parts, self._antithetic = parts, antithetic
        self._noise: list[Tensor] = []

    def __call__(
        self,
        step: Pass,
        params: Sequence[Tensor],
        optimizers: Sequence[Any],
    ) -> tuple[Tensor, Gradients]:
        rows = step.targets.shape[1]
        parts = min(self._parts, rows)
        drawing = _Drawing(params, optimizers)
        losses: Any = 0.0
        total: Gradients = []
        start = 0
        for part in range(parts):
            # As `Tensor.tensor_split`: the first shares have one row more.
            size = rows // parts + (part < rows % parts)
            here = step if parts == 1 else step.part(slice(start, start + size))
            sign = -1.0 if self._antithetic and part % 2 else 1.0
            if sign > 0:
                self._noise = drawing.draw(self._noise)
            moved = torch._foreach_add(list(params), self._noise, alpha=sign)
            loss, grads = here(moved, statistics=True)
            weight = size / rows
            losses = losses + loss * weight
            if parts > 1:
                torch._foreach_mul_(grads, weight)
            if total:
                torch._foreach_add_(total, grads)
            else:
                total = grads
            start += size
        return losses, total


class _Drawing:
    """Draws of the noise of all members around their weights."""

    def __init__(self, params: Sequence[Tensor], optimizers: Sequence[Any]) -> None:
        self._params = params
        self._generators = [optimizer.generator for optimizer in optimizers]
        gamma = _each("gamma", optimizers, params[0])
        # Filters of a member are rows of its tensors; vectors are one filter each.
        self._scales = [over(gamma, p) * _filter_norms(p) for p in params]

    def draw(self, into: list[Tensor]) -> list[Tensor]:
        """Draw once, into the memory of an earlier draw where it fits."""
        fits = len(into) == len(self._params) and len(into[0]) == len(self._params[0])
        noise = into if fits else [torch.empty_like(p) for p in self._params]
        for member, generator in enumerate(self._generators):
            for each in noise:
                each[member].normal_(generator=generator)
        torch._foreach_mul_(noise, self._scales)
        return noise


def _filter_norms(params: Tensor) -> Tensor:
    """Norms of the filters of each member, which broadcast against (K, *shape)."""
    if params.dim() == 1:  # one number of each
        return params.abs()
    dims = tuple(range(min(2, params.dim() - 1), params.dim()))
    norms: Tensor = torch.linalg.vector_norm(params, dim=dims, keepdim=True)
    return norms


Method = PlainGradient | Ascent | Smoothing


def method_of(choice: Choice | None) -> Method:
    """The gradients of a method that can be packed."""
    if choice is None:
        return PlainGradient()
    if choice.name in ("sam", "asam"):
        return Ascent(adaptive=choice.name == "asam")
    settings = choice.settings
    return Smoothing(
        parts=int(settings.get("micro_batches", 1)),
        antithetic=bool(settings.get("antithetic", False)),
    )


def joint_norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each member over all of its tensors, (K,)."""
    norms = [torch.linalg.vector_norm(t.flatten(1), dim=1) for t in tensors]
    joint: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return joint


def over(values: Tensor, like: Tensor) -> Tensor:
    """One number of each member, (K,), to broadcast against (K, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _each(name: str, optimizers: Sequence[Any], like: Tensor) -> Tensor:
    """A setting of each member, (K,)."""
    values = [float(each.bases[0].param_groups[0][name]) for each in optimizers]
    return torch.tensor(values, dtype=like.dtype, device=like.device)
