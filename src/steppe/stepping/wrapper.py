"""One `torch.optim.Optimizer` in front of one or several base optimizers."""

from __future__ import annotations

import inspect
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError, UsageError, brief
from steppe.parameters import forget_derived
from steppe.registry.bounds import Ranges
from steppe.schedules import Schedule
from steppe.stepping.group_settings import GroupSettings
from steppe.stepping.loop import OpenLoop
from steppe.stepping.state_dicts import joined_state, reading, split_state


class Shown(Optimizer):
    """An optimizer that trainers wrap in a class made of its own.

    Lightning and Fabric make a subclass of the optimizer's class without its state
    around it; what they do not define themselves is that of `optimizer`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a trainer's wrapper class show the optimizer inside of it."""
        super().__init_subclass__(**options)
        outer = cls.__bases__[0]
        if issubclass(outer, Shown) or not hasattr(outer, "optimizer"):
            return
        for name in set(dir(cls)) - set(dir(outer)):
            if not name.startswith("_"):
                setattr(cls, name, property(attrgetter(f"optimizer.{name}")))


class OptimizerWrapper(Shown, ABC):
    """Shows the groups and states of its bases as its own.

    LR schedulers, checkpoints and loggers may hold it or a base: the groups are the
    same objects.

    Args:
        base: one optimizer, or several.
        given: settings of the method, values or schedules, by name; put into the
            groups of all bases.
        bounds: ranges of the settings.

    Raises:
        SettingError: a base that cannot be one, or a setting out of its range.
    """

    _open: OpenLoop  # the passes() loop that was begun last
    _mode = ""  # the one that the bases were switched to last

    def __new__(cls, *positional: Any, **_: Any) -> Self:
        """Refuse the two-call form's arguments in a sentence of its own."""
        if len(positional) > 1:
            raise UsageError(
                f"{cls.__name__} takes one base and settings by name, as in "
                f"{cls.__name__}(torch.optim.SGD(params, lr=0.1), rho=0.05); code for "
                "the two-call SAM runs with `from steppe.compat import SAM`."
            )
        return super().__new__(cls)

    if not TYPE_CHECKING:  # which would take any name for one that is there

        def __getattr__(self, name: str) -> Any:
            """Say where the calls of the two-call form are."""
            kind = type(self).__name__
            if name in ("first_step", "second_step"):
                raise AttributeError(
                    f"{kind} has no {name}(): loop over passes(), or take the two "
                    "calls from steppe.compat: SAM, or TwoCall(optimizer)."
                )
            raise AttributeError(f"'{kind}' object has no attribute '{name}'")

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        given: Mapping[str, float | Schedule],
        bounds: Ranges,
    ) -> None:
        bases = _checked_bases(base)
        taken = {key for each in bases for key in each.defaults}
        settings = GroupSettings(given, bounds, taken)
        groups = [group for each in bases for group in each.param_groups]
        settings.put_into(groups)
        super().__init__([{"params": group["params"]} for group in groups], {})
        self._settings = settings
        self.bases: tuple[Optimizer, ...] = bases
        # First those that may refuse to step, so that no other has stepped then.
        self._step_order = tuple(sorted(bases, key=has_modes, reverse=True))
        self.defaults = {**bases[0].defaults, **settings.values}
        del self.__dict__["_made_with"]
        self._guard_bases()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the bases themselves, with this method's settings in them."""
        if "bases" not in self.__dict__:  # torch is making us
            made: list[dict[str, Any]] = self.__dict__.setdefault("_made_with", [])
            return made
        if len(self.bases) == 1:
            groups = self.bases[0].param_groups
        else:
            groups = [group for base in self.bases for group in base.param_groups]
        self._settings.complete(groups)
        return groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        if "bases" in self.__dict__:
            if len(self.bases) > 1:
                raise UsageError("set param_groups on each of the several bases.")
            self.bases[0].param_groups = groups

    @property
    def state(self) -> Any:
        """State of the bases, by parameter."""
        return joint_state(self.bases) if "bases" in self.__dict__ else {}

    @state.setter
    def state(self, _: Mapping[Any, Any]) -> None:
        if "bases" in self.__dict__:
            raise UsageError("the state belongs to the base; set it there.")

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base; with several bases, add it to one of them."""
        if "bases" not in self.__dict__:  # torch is making us
            super().add_param_group(param_group)
            return
        if len(self.bases) > 1:
            raise UsageError(
                "with several bases it is open which one gets the group; add it to "
                "one of them."
            )
        self._settings.put_into([param_group])
        self.bases[0].add_param_group(param_group)

    def train(self) -> None:
        """Switch bases that train and predict at different weights to the former.

        Schedule-free ones do, and refuse to step without it. Others are left alone, so
        that a loop that calls this runs with every base.

        Raises:
            UsageError: as `eval`.
        """
        self._switch("train")

    def eval(self) -> None:
        """Switch such bases to the weights that they predict with, until `train()`.

        Raises:
            UsageError: inside a passes() loop, where weights may be perturbed. The loop
                has been closed then.
        """
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        bases = [base for base in self.bases if has_modes(base)]
        # Trainers call train() before each forward pass, so inside of the loop too.
        repeated = mode == self._mode and self._open.get() is not None
        if not bases or repeated:
            return
        if self._open.close():
            raise UsageError(
                f"{mode}() inside a passes() loop would switch weights that may be "
                "perturbed; call it before the loop or after step() (the loop has been "
                "closed, and the weights are clean)."
            )
        for base in bases:
            getattr(base, mode)()
        self._mode = mode
        forget_derived()

    def state_dict(self) -> dict[str, Any]:
        """State of the bases in torch's form, and under "steppe" that of the method.

        A state of a single base that stands alone can be loaded too.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = {**joined_state(self.bases), "steppe": self._own_state()}
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        As in torch, settings in the saved groups win over those given to the
        constructor; a state of the base alone leaves them as they are.

        Raises:
            CheckpointError: the state of another method, of other groups or of a newer
                version, or a damaged one.
            SettingError: a setting in it that is out of its range.

        Nothing has been loaded then.
        """
        kept = [(base, base.state, base.param_groups) for base in self.bases]
        try:
            with reading(type(self).__name__):
                self._load(state_dict)
        except BaseException:
            # torch puts new objects in the place of these, so the old ones are as ever.
            for base, old, groups in kept:
                base.state, base.param_groups = old, groups
            raise

    def _load(self, state_dict: Mapping[str, Any]) -> None:
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state)
            state = state if changed is None else changed
        own = state.get("steppe")
        for base, part in split_state(state, self.bases):
            previous = [dict(group) for group in base.param_groups]
            base.load_state_dict(part)
            self._settings.adopt(base.param_groups, previous)
        self._load_own(own)
        self._mode = ""  # the state says in which one a base is
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """False, for `GradScaler.step`, which asks before it steps or skips.

        That it has asked is all that says of a step that it was skipped.
        """
        self.check_scaled_step()
        self._scaler_asked = True
        return False

    def _guard_bases(self) -> None:
        """Be asked before a base steps, in the place of earlier wrappers of it."""
        for base in self.bases:
            hooks = base._optimizer_step_pre_hooks
            for number, hook in list(hooks.items()):
                if isinstance(hook, _StepGuard):
                    del hooks[number]
            base.register_step_pre_hook(_StepGuard(self))

    @abstractmethod
    def check_base_step(self) -> None:
        """Refuse a base that is stepped where only this optimizer may."""

    @abstractmethod
    def check_scaled_step(self) -> None:
        """Refuse a `GradScaler` that this optimizer needed to know and does not."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """State saved beside that of the bases: numbers and tensors."""

    @abstractmethod
    def _load_own(self, own: Mapping[str, Any] | None) -> None:
        """Check and load a state of `_own_state`; None from a base alone."""


def has_modes(base: Optimizer) -> bool:
    """Whether a base has different weights to train and to predict with."""
    return all(callable(getattr(base, mode, None)) for mode in ("train", "eval"))


def check_minimizes(optimizer: OptimizerWrapper) -> None:
    """Refuse a base that goes uphill itself, for a method that looks there.

    Raises:
        SettingError: a group with maximize=True.
    """
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise SettingError(
            f"{type(optimizer).__name__} takes uphill for the side of larger losses; "
            "make its base with maximize=False and give it the negative of what is to "
            "grow."
        )


class _StepGuard:
    """Asks an optimizer, as long as there is one, whether its base may step now."""

    def __init__(self, owner: OptimizerWrapper) -> None:
        self.owner = weakref.ref(owner)

    def __call__(self, *_: Any) -> None:
        owner = self.owner()
        if owner is not None:
            owner.check_base_step()


def check_all_batches_come() -> None:
    """Refuse a closure that Accelerate calls for the last micro-batch of a step only.

    For the others it does not call the optimizer at all, so that nothing can be seen
    of them from here but who calls for the last.
    """
    if "accelerate.optimizer" not in sys.modules:
        return
    caller, frame = None, sys._getframe(1).f_back
    while frame and caller is None:
        if frame.f_globals.get("__name__") == "accelerate.optimizer":
            caller = frame.f_locals.get("self")  # None in what it puts before `step`
        frame = frame.f_back
    if caller is not None and caller.gradient_state.num_steps > 1:
        raise UsageError(
            "Accelerate calls step(closure) for the last micro-batch of each step "
            "only and the others would be lost; gather them with "
            "steppe.integrations.accelerate.Window."
        )


def joint_state(bases: Sequence[Optimizer]) -> Any:
    """State of one or several bases, by parameter."""
    if len(bases) == 1:
        return bases[0].state
    return {p: state for base in bases for p, state in base.state.items()}


def _checked_bases(base: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    bases = tuple(base) if isinstance(base, list | tuple) else (base,)
    if not bases or not all(isinstance(each, Optimizer) for each in bases):
        raise SettingError(
            "base must be a torch.optim.Optimizer instance or a list of them, such as "
            f"torch.optim.SGD(model.parameters(), lr=0.1); got {brief(base)}."
        )
    for each in bases:
        if _needs_closure(each):
            raise SettingError(
                f"{type(each).__name__} evaluates the loss by itself and cannot be a "
                "base; use one that steps with p.grad, such as SGD or Adam."
            )
        if not hasattr(each, "_optimizer_step_pre_hooks"):
            raise SettingError(
                f"{type(each).__name__} is a trainer's wrapper; wrap the optimizer "
                "inside of it and give the trainer the result (steppe.integrations)."
            )
        if isinstance(each, OptimizerWrapper):
            raise SettingError(
                f"base must be a plain optimizer, got {type(each).__name__}; "
                "one method cannot wrap another."
            )
    return bases


def _needs_closure(base: Optimizer) -> bool:
    """Whether a base cannot step with `p.grad` alone, as LBFGS cannot."""
    named = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    # Of the class: an LR scheduler patches that of the object.
    _, *parameters = inspect.signature(type(base).step).parameters.values()
    return any(p.default is p.empty and p.kind in named for p in parameters)
