"""The one driver of all optimizers: it runs a method and the hooks around its passes.

A method is a generator (`plan`) that yields a `GradientRequest` wherever it wants a
gradient at the current weights. The driver runs it inside the caller's loop, once for
each `backward()`: see `AbstractOptimizer.passes`.

**Invariant.** When the loop ends, the weights are bit for bit what they were and
`p.grad` is the gradient to step with, so clipping, `GradScaler`, LR schedulers and
loggers work unmodified. An exception or a `break` inside the loop leaves the weights
clean too. `step()` without a finished loop raises.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Unpack, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import UsageError, check_callable
from steppe.parameters import forget_derived
from steppe.registry.bounds import Ranges
from steppe.registry.registry import Registry
from steppe.registry.specs import OptimizerSpec
from steppe.schedules import Schedule
from steppe.stepping.context import Plan, StepContext, advance, plain_step
from steppe.stepping.group_settings import check_settings
from steppe.stepping.hooks.gradient_sync import GradientSync
from steppe.stepping.hooks.order import hooks_of
from steppe.stepping.loop import AbstractHook, Loop, OpenLoop, run_passes
from steppe.stepping.micro_batches import MicroBatches, Outside
from steppe.stepping.options import CheckedOptions, RandomOptions, Statistics
from steppe.stepping.state import MethodState, check_loss
from steppe.stepping.state_dicts import check_method, resume_draws
from steppe.stepping.wrapper import OptimizerWrapper, joint_state
from steppe.vectors import joint_norm

OPTIMIZERS: Registry[OptimizerSpec] = Registry("optimizer", OptimizerSpec)
STATE_FORMAT = 1  # of the "steppe" entry of a state_dict


class AbstractOptimizer(OptimizerWrapper):
    """An optimizer that wraps a base and chooses the gradient the base steps with.

    Args:
        base: one `torch.optim.Optimizer`, or several that share one norm. Its
            parameter groups are this optimizer's own, so LR schedulers may hold
            either. A group may carry its own value of a setting, and
            `perturb=False` to leave its parameters where they are.
        settings: values or schedules of the method's settings, by name; they live in
            the parameter groups.
        fixed: values of its other numbers, the same for all groups and steps.
        options: see `OptimizerOptions`; `seed` and `generator` for methods that draw.

    Raises:
        SettingError: a setting out of its range, or a option that does not exist.
    """

    bounds: ClassVar[Ranges]  # of the settings that are numbers
    running_statistics: ClassVar[Statistics] = "first"  # with a model
    looks_first: ClassVar[bool] = True  # the first pass is at the unperturbed weights
    scale_free: ClassVar[bool] = True  # scaling the loss scales the gradient only
    accumulates: ClassVar[bool] = True  # several loops may add up to one step
    random: ClassVar[bool] = False  # draws random numbers

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        settings: Mapping[str, float | Schedule],
        fixed: Mapping[str, float] | None = None,
        **options: Unpack[RandomOptions],
    ) -> None:
        check_settings(fixed or {}, self.bounds)
        checked = CheckedOptions.of(type(self), options)
        name = type(self).__name__
        checked.check(name, random=self.random, looks_first=self.looks_first)
        gradient_sync = GradientSync(checked.model, checked.sync)
        super().__init__(base, settings, self.bounds)
        checked.check_model(self._params())
        self._options, self._gradient_sync = checked, gradient_sync
        self._only = checked.movable(self._params())
        self.steps = 0  # completed optimizer steps
        self.generator = checked.generator
        if self.random:
            first = self._params()[0]
            number = gradient_sync.draw_number(first)
            self.generator = checked.draws(first.device, number)
        self._method_state = MethodState()
        self._idle()

    def _idle(self) -> None:
        """Reset the state of a running loop or an unfinished step."""
        self._open = OpenLoop()
        self._ready = False  # p.grad is the gradient of finished passes
        self._stepping = self._scaler_asked = False
        self._outside = Outside()
        self._looping = False  # whether a loop has begun its passes
        self._micro_batches = MicroBatches()
        self._hooks: dict[bool, list[AbstractHook]] = {}  # by `accumulate`
        self._waiting: list[Plan] = []  # methods that go on after the base's step
        self._context = StepContext(self._method_state)

    @abstractmethod
    def plan(self, step: StepContext) -> Plan:
        """Yield a request wherever a gradient is wanted; runs without autograd."""

    def passes(self, *, accumulate: bool = False) -> Iterator[int]:
        """Loop over the gradient passes of one step; yields their number from 0.

        Use it directly in a `for`: a loop that is kept under a name and left early
        holds the weights where they are until it is closed or collected.

        Args:
            accumulate: add the resulting gradient to what `p.grad` holds already,
                which makes several loops per `step()` one step over micro-batches,
                each with a perturbation of its own (m-sharpness); call `zero_grad()`
                before the first of them.

        Raises:
            UsageError: inside another loop of this optimizer, which ends with that; or
                where it would drop a gradient that no step has used.
        """
        if self._open.close():
            raise UsageError(
                "another passes() loop of this optimizer was still open; finish it "
                "before the next one (it has been closed, and the weights are clean)."
            )
        if not accumulate and self.unused_gradient():
            raise UsageError(
                "passes() would drop the gradient of the last loop, which no step() "
                "has used; to add up micro-batches take passes(accumulate=True) for "
                "each, to drop it call zero_grad()."
            )
        if accumulate and not self.accumulates:
            raise UsageError(
                f"{type(self).__name__} takes one passes() loop per step; run all "
                "micro-batches inside each pass instead of accumulate=True."
            )
        self._ready = False
        loop = self._passes(accumulate)
        self._open = OpenLoop(loop)
        return loop

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step with the gradient of the finished passes, or run them on a closure.

        Args:
            closure: computes the loss and returns it; called once per pass. It may call
                `backward()` itself, as for `torch.optim.LBFGS`; else that is done here.

        Returns:
            With a closure, the loss at the unperturbed weights; for a method that
            never evaluates there, the mean loss over its passes.
        """
        loss = None if closure is None else self._evaluate(closure)
        self._open.close()
        if not self._ready:
            raise UsageError(
                "step() needs the gradient of a finished passes() loop; run "
                "`for _ in opt.passes(): loss_fn(model(x), y).backward()` before it, "
                "or call step(closure); in a trainer, see steppe.integrations."
            )
        self._ready, self._stepping = False, True
        try:
            for base in self._step_order:
                base.step()
            for plan in self._waiting:
                advance(plan)
        finally:
            self._stepping, self._waiting = False, []
            forget_derived()
        self.steps += 1
        return loss

    def go_to(self, steps: int) -> None:
        """Count so many completed steps; scheduled settings are those of the next one.

        For a loop that computes the steps of several networks at once, in the place of
        passes.
        """
        self._settings.apply(self.param_groups, steps)
        self.steps = steps

    def unused_gradient(self) -> bool:
        """Whether `p.grad` holds the gradient of finished passes that no step used.

        One that a `GradScaler` was to step with, or that is not finite, does not count:
        it skips such steps. Looks at the gradient only between passes and their step.
        """
        if not self._ready or self._scaler_asked:
            return False
        norm = joint_norm(list(self._context.gradients().values()))
        return 0.0 < norm.item() < math.inf

    def take(self, *batch: Any) -> Any:
        """The share of a batch that this pass is about.

        Methods that split a batch into micro-batches (LPF-SGD) ask for one share per
        pass; all others get the whole batch. Without `take` every pass runs on the
        whole batch, which is right too but costs as many gradients as there are shares.

        Args:
            batch: tensors, or nested lists and dicts of them, with rows along dim 0.
        """
        if not self._looping:
            raise UsageError("take() belongs inside a passes() loop or a closure.")
        share = self._micro_batches.take(batch)
        return share[0] if len(share) == 1 else share

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch, but a pass that adds to earlier ones keeps their sum."""
        self._outside.cleared = set_to_none
        if not self._looping:
            self._ready, self._waiting = False, []
        if not self._micro_batches.adds:
            super().zero_grad(set_to_none)

    def report(self, loss: Tensor | float) -> None:
        """Tell the loss of this pass, for `loss` and `metrics()`; closures do so."""
        if not self._looping:
            raise UsageError("report() belongs inside a passes() loop.")
        check_loss("report() takes", loss)
        clean = self._context.depth == 0
        self._context.metrics.loss(loss, clean=clean, weight=self._micro_batches.weight)

    @property
    def loss(self) -> Tensor | float:
        """The loss of the last step to log, of those that `report` was given.

        It is the one at the unperturbed weights, or the mean over the passes of a
        method that never evaluates there; no device waits for it. A variable of the
        loop would hold the loss of the last pass, which is taken uphill.

        Raises:
            UsageError: no loss was reported.
        """
        return self._context.metrics.to_log()

    @property
    def perturbed_loss(self) -> Tensor | float | None:
        """Mean loss of the last step over its passes at other weights; None for none.

        Of those that `report` was given; no device waits for it.
        """
        return self._context.metrics.moved

    def metrics(self) -> dict[str, float]:
        """Metrics of the last step, by name.

        The method's settings in the first group, and where they are known: "loss" at
        the unperturbed weights, "perturbed_loss", the "sharpness_gap" between them, and
        what the method notes, such as "grad_norm", the length of the gradient of the
        parameters that may be moved. `monitor=True` adds "grad_norm" and
        "final_grad_norm" of all, and their "cosine". With several loops per step these
        are of the last one. Waits for the device; call it as often as you log.
        """
        group = self._settings.of(self.param_groups[0])
        settings = {n: float(value) for n, value in group.items() if n in self.bounds}
        return settings | self._context.metrics.numbers()

    def _passes(self, accumulate: bool) -> Loop:
        plan, hooks = self._begin(accumulate), self._hooks_of(accumulate)
        self._looping = True
        try:
            waits = yield from run_passes(
                plan, self._context, hooks, self._micro_batches.holds
            )
        finally:
            self._looping = False
        if waits:
            self._waiting.append(plan)
        self._ready, self._scaler_asked = True, False

    def _begin(self, accumulate: bool) -> Plan:
        """Plan of a loop; where a gate is closed it is the base's."""
        groups, gate = self.param_groups, self._options.gate
        self._settings.apply(groups, self.steps)
        self._context.begin(
            groups,
            self._params(),
            accumulate=accumulate,
            keys=self._settings.keys,
            number=self.steps,
            only=self._only,
            base_state=partial(joint_state, self.bases),
            names=self._options.names,
        )
        if not accumulate:
            self._waiting = []
        closed = gate is not None and not gate.opens(self.steps)
        return plain_step() if closed else self.plan(self._context)

    def _hooks_of(self, accumulate: bool) -> list[AbstractHook]:
        """Hooks of the loops that add up or of the others, made for the first one."""
        if accumulate not in self._hooks:
            self._hooks[accumulate] = hooks_of(
                self._options,
                self._gradient_sync,
                self._micro_batches,
                accumulate=accumulate,
                running_statistics=self._options.batch_norm or self.running_statistics,
                scale_free=self.scale_free,
            )
        return self._hooks[accumulate]

    def _evaluate(self, closure: Callable[[], float]) -> float:
        check_callable("closure", closure, "computes the loss and returns it")
        self._options.check_closure()
        self._outside.begin(self._params())
        for _ in self.passes():
            self._outside.mark()
            with torch.enable_grad():
                loss = closure()
                check_loss("the closure must return", loss)
                self._micro_batches.differentiate(loss)
            self._outside.check()
            self.report(loss)
        return self.loss  # type: ignore[return-value]

    def check_base_step(self) -> None:
        """Refuse a base that is stepped where only this optimizer may."""
        if self._stepping:
            return
        name = type(self).__name__
        if self._open.get() is not None:
            raise UsageError(
                f"the base of {name} was stepped inside a passes() loop, at weights "
                "that may be perturbed; finish the loop and call step() of the wrapper."
            )
        if self._ready:
            raise UsageError(
                f"the base of {name} was stepped after a passes() loop; call step() of "
                f"{name} instead, which counts steps for schedules and gates and may "
                "change the step itself; nothing has been changed."
            )

    def check_scaled_step(self) -> None:
        """Refuse a scaler that a method whose memory it changes does not know."""
        self._options.check_scaler(type(self).__name__, scale_free=self.scale_free)

    def _own_state(self) -> dict[str, Any]:
        return {
            "format": STATE_FORMAT,
            "method": type(self).__name__,
            "steps": self.steps,
            "generator": self.generator and self.generator.get_state(),
            "memory": self._method_state.state(self._params()),
        }

    def _load_own(self, own: Mapping[str, Any] | None) -> None:
        self._open.close()
        if own is None:
            self._method_state.forget()
        else:
            check_method(own, type(self).__name__, STATE_FORMAT)
            memory = self._method_state.read(own["memory"], self._params())
            if self.generator is not None:
                resume_draws(self.generator, own["generator"])
            self._method_state.adopt(*memory)
        self._ready, self._waiting = False, []
        self.steps = 0 if own is None else own["steps"]

    def __getstate__(self) -> dict[str, Any]:
        """State without that of a running loop; an LR scheduler patches `step`."""
        loop = {
            "step",
            "_open",
            "_ready",
            "_stepping",
            "_looping",
            "_micro_batches",
            "_hooks",
            "_waiting",
            "_context",
        }
        return {k: v for k, v in self.__dict__.items() if k not in loop}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state over; the copy has no running loop."""
        super().__setstate__(state)
        self._idle()
        self._guard_bases()
