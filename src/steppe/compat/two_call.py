"""The two-call form: `first_step` after one backward pass, `second_step` after another.

::

    loss_fn(model(x), y).backward()
    optimizer.first_step(zero_grad=True)
    loss_fn(model(x), y).backward()
    optimizer.second_step(zero_grad=True)

`SAM` has the signature of the widespread PyTorch code, github.com/davda54/sam, and
`TwoCall` gives the same calls to any steppe optimizer of at most two passes. Both run
on the one driver, so weights come back bit for bit, also after an exception, and a
saved state holds all of the base's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.compat.front import Front
from steppe.errors import CheckpointError, SettingError, UsageError
from steppe.optimizers import asam, sam
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.group_settings import check_settings
from steppe.stepping.loop import Loop, is_over
from steppe.stepping.state_dicts import reading

Grads = list[Tensor | None]


class TwoCall(Front):
    """Drives a steppe optimizer by two calls instead of a `passes()` loop.

    With a `GradScaler`, or to clip the gradient that is stepped with, part the second
    call in two: `finish()`, then `scaler.unscale_(optimizer)`, clipping, and
    `scaler.step(optimizer)` or `optimizer.step()`. Nothing is unscaled before
    `first_step`.

    Args:
        optimizer: a steppe optimizer that takes its first gradient at the unperturbed
            weights and at most one more.

    Raises:
        SettingError: an optimizer that cannot be driven by two calls.
    """

    of_one_step: ClassVar = frozenset({"_loop", "_only", "_finished"})
    _loop: Loop | None = None  # waits for the second gradient
    _only: Grads | None = None  # of a step that needs no second gradient
    _finished: bool = False  # p.grad is the gradient to step with

    def __init__(self, optimizer: AbstractOptimizer) -> None:
        _check_two_calls(optimizer)
        super().__init__(optimizer)

    def first_step(self, zero_grad: bool = False) -> bool:
        """Move the weights to where the second gradient is wanted.

        Args:
            zero_grad: clear the gradients; else the second backward pass adds to them.

        Returns:
            Whether a second gradient is wanted; False where a gate is closed. A second
            backward pass does no harm then: `second_step` uses the first gradient.

        Raises:
            UsageError: without a gradient, or after a `first_step` that no
                `second_step` followed, or a `finish` that no `step` did. The weights
                are clean then.
        """
        if self._waits():
            self.abandon()
            raise UsageError(
                "the last first_step() had no second_step(), so the present gradients "
                "were taken at perturbed weights; the weights are back where they were "
                "and the gradients cleared: run the first backward pass again."
            )
        if self._finished and self.optimizer.unused_gradient():
            raise UsageError(
                "first_step() would drop the gradient that finish() left and no step() "
                "has used; call step(), or zero_grad() to drop it, before the next "
                "first backward pass."
            )
        self._forget()
        params = self._params()
        first: Grads = [p.grad for p in params]
        left: Grads = [None if zero_grad or g is None else g.clone() for g in first]
        loop = cast(Loop, self.optimizer.passes())
        next(loop)  # begins the first pass, which clears gradients: they go back in
        _give(params, first)
        wanted = next(loop, None) is not None
        if wanted:
            self._loop = loop
        else:
            self._only = [p.grad for p in params]
        _give(params, left)
        return wanted

    def second_step(self, zero_grad: bool = False) -> None:
        """Put the weights back and step with the gradient of the moved ones.

        Args:
            zero_grad: clear the gradients afterwards.

        Raises:
            UsageError: without a `first_step`, without a gradient, or for a method that
                wants a third one; no step has been taken and the weights are clean.
        """
        self.finish()
        self.step()
        if zero_grad:
            self.zero_grad()

    def finish(self) -> None:
        """Put the weights back and leave in `p.grad` the gradient to step with.

        Raises:
            UsageError: as in `second_step`.
        """
        loop, only = self._loop, self._only
        self._forget()
        if only is not None:
            _give(self._params(), only)
        elif loop is None or is_over(loop):
            raise UsageError(
                "second_step() and finish() need a first_step() of the same step; "
                "call backward() and first_step() before them."
            )
        elif next(loop, None) is not None:
            loop.close()
            raise UsageError(
                f"{type(self.optimizer).__name__} wants more than two gradients per "
                "step as it is set; use its passes() loop instead of the two calls."
            )
        self._finished = True

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step with a closure for the second pass, or after `finish()` without one.

        Args:
            closure: computes the loss, calls `backward()` and may return the loss;
                called once, at the moved weights. The gradients of the first pass must
                exist already.

        Returns:
            What the closure returned.
        """
        if closure is not None and self._finished:
            raise UsageError(
                "step() takes no closure after finish(), which has the gradient "
                "already; under Lightning's manual optimization, see "
                "steppe.integrations.lightning.step."
            )
        value = None if closure is None else self._second_pass(closure)
        if not self._finished:
            raise UsageError(
                "step() needs a closure for the second pass, or finish() before it; "
                "after a second backward pass call second_step()."
            )
        self._finished = False
        self.optimizer.step()
        return value

    def abandon(self) -> None:
        """Put the weights back, clear the gradients and forget a `first_step`."""
        if self._loop is not None:
            self._loop.close()
        self._forget()
        self.zero_grad()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch; the gradient that `finish()` left is dropped too."""
        self._finished = False
        super().zero_grad(set_to_none)
        if not self._waits():
            self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The steppe optimizer's state, which that loads too: all of the base's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, of the published two-call SAM too.

        That one lacks the momentum and moments of the base, which is warned of; its
        radius and the settings of its base are taken over.

        Raises:
            CheckpointError: the state of another method or of other groups; nothing
                has been loaded then.
        """
        with reading(type(self).__name__):
            foreign = "steppe" not in state_dict
            if foreign:
                _check_adaptive(state_dict, isinstance(self.optimizer, asam.ASAM))
                for group in state_dict["param_groups"]:
                    check_settings(group, self.optimizer.bounds)
        self.optimizer.load_state_dict(state_dict)
        self._forget()
        if foreign:
            saved = state_dict["param_groups"]
            for group, old in zip(self.param_groups, saved, strict=True):
                names = group.keys() & self.optimizer.bounds
                group.update({name: old[name] for name in names if name in old})

    def _second_pass(self, closure: Callable[[], Any]) -> Any:
        self.first_step(zero_grad=True)
        try:
            # Optimizers are often called under no_grad, as torch's own steps are.
            with torch.enable_grad():
                value = closure()
            self.finish()
        except BaseException:
            self.abandon()
            raise
        return value

    def _waits(self) -> bool:
        """Whether a `first_step` has not been answered."""
        open_loop = self._loop is not None and not is_over(self._loop)
        return open_loop or self._only is not None

    def _forget(self) -> None:
        self._loop, self._only, self._finished = None, None, False


class SAM(TwoCall):
    """SAM, or ASAM, with the constructor and calls of the published two-call code.

    Args:
        params: parameters or groups; a group may have its own `rho`.
        base_optimizer: class of the optimizer that takes the step.
        rho: radius, >= 0; with `adaptive` relative to the weights.
        adaptive: ASAM as `steppe.ASAM(style="davda54")` has it.
        kwargs: of the base optimizer.
    """

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Callable[..., Optimizer],
        rho: float = 0.05,
        adaptive: bool = False,
        **kwargs: Any,
    ) -> None:
        base = base_optimizer(params, **kwargs)
        if any(
            bool(g.get("adaptive", adaptive)) != adaptive for g in base.param_groups
        ):
            raise SettingError(
                f"adaptive must be the same in all groups, here {adaptive}; for parts "
                "of a model that are not to be perturbed give a group perturb=False."
            )
        super().__init__(
            asam.ASAM(base, rho=rho, style="davda54")
            if adaptive
            else sam.SAM(base, rho=rho)
        )

    @property
    def base_optimizer(self) -> Optimizer:
        """The optimizer that takes the step."""
        return self.optimizer.bases[0]


def _check_two_calls(optimizer: AbstractOptimizer) -> None:
    name = type(optimizer).__name__
    if not isinstance(optimizer, AbstractOptimizer):
        raise SettingError(
            f"TwoCall drives a steppe optimizer such as steppe.SAM(base), got {name}."
        )
    if not optimizer.looks_first:
        raise SettingError(
            f"{name} takes its first gradient at perturbed weights, so backward() "
            "cannot come before first_step(); use its passes() loop."
        )
    if optimizer._options.rng == "replay":
        raise SettingError(
            "rng='replay' has to see the first pass begin, which is over when "
            "first_step() is called; use the passes() loop, or rng='fresh'."
        )


def _check_adaptive(state_dict: Mapping[str, Any], adaptive: bool) -> None:
    for group in state_dict["param_groups"]:
        saved = bool(group.get("adaptive", adaptive))
        if saved != adaptive:
            raise CheckpointError(
                f"the state is of a SAM with adaptive={saved}, this one has "
                f"adaptive={adaptive}; make it with the same."
            )


def _give(params: list[Tensor], grads: Grads) -> None:
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
