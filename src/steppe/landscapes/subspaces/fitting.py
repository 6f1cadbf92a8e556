"""The bends of a curve, fitted so that the mean loss along it falls.

Source: Garipov et al., 2018, arXiv:1802.10026, section 3.1: a coordinate is drawn for
each batch, and the gradient of its loss there is shared out to the bends by their
weights.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from steppe.batches import on_device
from steppe.errors import (
    DataError,
    SettingError,
    UsageError,
    brief,
    check_callable,
    check_count,
    check_integer,
    check_switch,
)
from steppe.landscapes.subspaces.kept_fit import KeptFit, recipe_of
from steppe.measuring.model_state import measured
from steppe.objective import Objective, check_objective
from steppe.parameters import overwrite_, restored
from steppe.results import Cost
from steppe.seeds import seed_of, stream

if TYPE_CHECKING:
    from steppe.landscapes.subspaces.curve import Curve

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

LR, MOMENTUM = 0.03, 0.9  # of the published code, for residual networks
LAST = 0.01  # share of the learning rate at the end


def fitted(
    curve: Curve,
    objective: Objective,
    *,
    steps: int,
    make: MakeOptimizer | None,
    batches: Iterable[Any] | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
    out: str | PathLike[str] | None,
    resume: bool,
) -> Curve:
    """The curve after some steps; see `Curve.fit`."""
    check_objective(objective, "Curve.fit")
    check_count("steps", steps, 1)
    check_integer("seed", seed)
    check_switch("resume", resume)
    if make is not None:
        check_callable("optimizer", make, "makes an optimizer from a list of bends")
    curve.check_belongs(objective)
    variables = dict(zip(objective.names, objective.params, strict=True))
    buffers = dict(objective.model.named_buffers())
    with (
        measured(objective.model, variables, training=True),
        torch.enable_grad(),
        restored(list(objective.params)),
    ):
        path = _Path(curve, objective)
        optimizer, schedule = _optimizer(path, make, steps)
        recipe = recipe_of(curve, objective, optimizer, batches, steps=steps, seed=seed)
        kept = KeptFit(out, curve, recipe, resume=resume)
        losses = kept.losses
        done = len(losses)
        # Batches are begun once: a second look would move a generator of a loader on.
        draws = _draws(objective, batches, seed)
        if done:
            # Names of code stay when it is changed, and its first loss does not.
            t, batch = next(draws)
            kept.check_first(_gradient(path.at(t), objective, batch)[0])
        if kept.finished is not None:
            return kept.finished
        kept.restore(path.named, optimizer, schedule, buffers)
        for step, (t, batch) in zip(range(min(done, 1), steps), draws):
            if step < done:
                continue
            loss, gradients = _gradient(path.at(t), objective, batch)
            if not torch.isfinite(loss):
                raise UsageError(
                    f"the loss at {t:.3g} along the curve is {float(loss)} in step "
                    f"{step + 1} of {steps}; give an optimizer with a smaller learning "
                    "rate: fit(..., optimizer=lambda bends: torch.optim.SGD(bends, "
                    "lr=0.001))."
                )
            path.share_out(t, gradients)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            losses.append(float(loss))
            kept.keep(losses, path.named, optimizer, schedule, buffers)
            if progress is not None:
                progress(step + 1, steps)
        path.check_finite()
    share = (steps - done) / max(1, len(objective.batches))
    objective.cost += Cost(gradients=share)
    directions = [
        tuple(
            bend[name].detach().to(p) - p
            for name, p in zip(curve.names, curve.base, strict=True)
        )
        for bend in path.named
    ]
    fitted_curve = replace(
        curve,
        directions=(*directions, curve.directions[-1]),
        losses=tuple(losses),
        recipe=recipe,
        details={**curve.details, "fit_steps": steps, "fit_seed": seed},
    )
    kept.finish(fitted_curve)
    return fitted_curve


class _Path:
    """A curve on the device of an objective, with bends that an optimizer moves."""

    def __init__(self, curve: Curve, objective: Objective) -> None:
        self.curve = curve
        self.names = objective.names
        self.params: list[Tensor] = list(objective.params)
        self.base = self._ordered(curve.base, objective.device)
        self.end = self._ordered(curve.exact[(1.0,)], objective.device)
        self.bends = [
            [
                nn.Parameter(p + d)
                for p, d in zip(
                    self.base, self._ordered(each, objective.device), strict=True
                )
            ]
            for each in curve.directions[:-1]
        ]

    @torch.no_grad()
    def at(self, t: float) -> list[Tensor]:
        """The parameters of the model, moved to a point."""
        first, *middle, last = self.curve.weights(t)
        values = torch._foreach_mul(self.base, first)
        for weight, bend in zip(middle, self.bends, strict=True):
            torch._foreach_add_(values, [b.detach() for b in bend], alpha=weight)
        torch._foreach_add_(values, self.end, alpha=last)
        overwrite_(self.params, values)
        return self.params

    def share_out(self, t: float, gradients: Sequence[Tensor]) -> None:
        """Give each bend its gradient: that at the point, times its weight there."""
        for weight, bend in zip(self.curve.weights(t)[1:-1], self.bends, strict=True):
            for parameter, gradient in zip(bend, gradients, strict=True):
                parameter.grad = gradient * weight

    def check_finite(self) -> None:
        """Refuse bends that the last step has driven off."""
        if not all(b.isfinite().all() for bend in self.bends for b in bend):
            raise UsageError(
                "a bend of the curve is not finite after the last step; give an "
                "optimizer with a smaller learning rate."
            )

    @property
    def named(self) -> list[dict[str, Tensor]]:
        """The parameters of each bend by name, in the order of the curve."""
        by_name = [dict(zip(self.names, bend, strict=True)) for bend in self.bends]
        return [{name: each[name] for name in self.curve.names} for each in by_name]

    def _ordered(self, tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        by_name = dict(zip(self.curve.names, tensors, strict=True))
        return [by_name[name].to(device) for name in self.names]


def _gradient(
    params: Sequence[Tensor], objective: Objective, batch: Any
) -> tuple[Tensor, list[Tensor]]:
    """The mean loss of a batch, and its gradient with that of the penalty."""
    batch = on_device(batch, objective.device)
    losses = objective.losses_on(batch)
    # A batch may hold no loss term, such as one of ignored targets alone.
    loss = losses.sum() / max(1, losses.numel())
    if loss.requires_grad:
        gradients = list(torch.autograd.grad(loss, params, materialize_grads=True))
    else:
        gradients = [torch.zeros_like(p) for p in params]
    if objective.penalty is not None:
        for gradient, p in zip(gradients, params, strict=True):
            gradient.add_(p.detach(), alpha=objective.penalty.curvature(p))
    return loss.detach(), gradients


def _optimizer(
    path: _Path, make: MakeOptimizer | None, steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR | None]:
    """The optimizer of all bends, and the schedule of the one that is the default."""
    bends = [b for bend in path.bends for b in bend]
    if make is None:
        default = torch.optim.SGD(bends, lr=LR, momentum=MOMENTUM)
        return default, LambdaLR(default, lambda step: _factor(step / steps))
    optimizer = make(bends)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SettingError(
            "optimizer must be a function that makes an optimizer of torch from a list "
            "of bends, such as lambda bends: torch.optim.SGD(bends, lr=0.01); it made "
            f"{brief(optimizer)}."
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise SettingError(
            f"optimizer must step from one gradient, got {type(optimizer).__name__}, "
            "which evaluates the loss again: each step of a fit is of another point; "
            "use torch.optim.SGD or Adam."
        )
    return optimizer, None


def _factor(share: float) -> float:
    """Factor of the learning rate: flat, falling linearly, flat again."""
    if share <= 0.5:
        return 1.0
    return max(LAST, 1.0 - (share - 0.5) / 0.4 * (1.0 - LAST))


def _draws(
    objective: Objective, batches: Iterable[Any] | None, seed: int
) -> Iterator[tuple[float, Any]]:
    """A coordinate and a batch for each step, with the random state that it begins in.

    They are drawn again from the first step on, also where a fit goes on: what a loader
    draws from the random numbers of torch follows from the seed and the step.
    """
    source = stream(seed)
    order = _batches(objective, batches, stream(seed, 1))
    for step in itertools.count():
        t = float(torch.rand((), generator=source, dtype=torch.float64, device="cpu"))
        torch.manual_seed(seed_of(seed, step))
        yield t, next(order)


def _batches(
    objective: Objective, batches: Iterable[Any] | None, source: torch.Generator
) -> Iterator[Any]:
    """Batches without end."""
    while True:
        count = 0
        if batches is None:
            order = torch.randperm(
                len(objective.batches), generator=source, device="cpu"
            ).tolist()
            epoch: Iterable[Any] = (objective.batches[index] for index in order)
        else:
            epoch = batches
        for batch in epoch:
            count += 1
            yield batch
        if not count:
            raise DataError(
                "the batches of a curve's fit ended and cannot be read again; give a "
                "list or a DataLoader with at least one batch."
            )
