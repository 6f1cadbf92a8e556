"""The one driver of all optimizers: passes, restoring, saving, buffers, random state.

A method is a generator (`plan`) that yields a `Request` wherever it wants a gradient
at the current weights. The driver runs it inside the caller's loop::

    for _ in opt.passes():
        loss = loss_fn(model(x), y)
        loss.backward()
    opt.step()

**Invariant.** When the loop ends, the weights are bit for bit what they were and
`p.grad` is the gradient to step with, so clipping, `GradScaler`, LR schedulers and
loggers work unmodified. An exception or a `break` inside the loop leaves the weights
clean too. `step()` without a finished loop raises.
"""

from __future__ import annotations

import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steppe.errors import CheckpointError, SettingError, UsageError
from steppe.group_settings import Bounds, GroupSettings
from steppe.keeping import RandomState, add_running
from steppe.parameters import BufferSnapshot
from steppe.registry import OptimizerSpec, Registry
from steppe.saving import joined_state, parted_state
from steppe.schedules import Schedule
from steppe.shares import ShareSum
from steppe.weights import Plan, Request, Weights

OPTIMIZERS: Registry[OptimizerSpec] = Registry("optimizer", OptimizerSpec)
STATE_FORMAT = 1  # of the "steppe" entry of a state_dict


class AbstractOptimizer(Optimizer, ABC):
    """An optimizer that wraps a base and chooses the gradient the base steps with.

    Args:
        base: one `torch.optim.Optimizer`, or several that share one norm. Its
            parameter groups are this optimizer's own, so LR schedulers may hold
            either. A group may carry its own value of a setting, and
            `perturb=False` to leave its parameters where they are.
        settings: values or schedules of the method's settings, by name.
        model: switches on the policy for running statistics.
        batch_norm: "first" keeps only what the first pass of a step writes to buffers
            (running statistics of batch norm) and needs `model`, "all" keeps every
            pass's; None is the method's own policy where `model` is given.
        rng: "fresh" draws new dropout masks in every pass, "replay" the same ones.
        generator: of the method's own draws; its state is saved with the optimizer.

    Raises:
        SettingError: a setting out of its range, or a policy that does not exist.
    """

    bounds: ClassVar[Bounds]  # closed ranges of the settings
    running_statistics: ClassVar[Literal["first", "all"]] = "first"  # with a model

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        settings: Mapping[str, float | Schedule],
        model: nn.Module | None = None,
        batch_norm: Literal["first", "all"] | None = None,
        rng: Literal["fresh", "replay"] = "fresh",
        generator: torch.Generator | None = None,
    ) -> None:
        policy = self.running_statistics if batch_norm is None else batch_norm
        if policy not in ("first", "all"):
            raise SettingError(
                f"batch_norm must be 'first' or 'all', got {batch_norm!r}."
            )
        if batch_norm == "first" and model is None:
            raise SettingError(
                "batch_norm='first' needs the model to find its running statistics; "
                "pass model=model."
            )
        if rng not in ("fresh", "replay"):
            raise SettingError(f"rng must be 'fresh' or 'replay', got {rng!r}.")
        bases = _checked_bases(base)
        group_settings = GroupSettings(settings, self.bounds)
        groups = [group for each in bases for group in each.param_groups]
        group_settings.put_into(groups)
        super().__init__([{"params": group["params"]} for group in groups], {})
        self._settings = group_settings
        self.bases: tuple[Optimizer, ...] = bases
        self.defaults = {**bases[0].defaults, **group_settings.values}
        self._statistics_of = model if policy == "first" else None
        self._rng = rng
        self.generator = generator
        self.steps = 0  # completed optimizer steps
        self._open: weakref.ref[Generator[int, None, None]] | None = None
        self._ready = False  # p.grad is the gradient of finished passes
        self._sum: ShareSum | None = None  # of the gradients of a running loop
        self._weights = Weights()

    @abstractmethod
    def plan(self, weights: Weights) -> Plan:
        """Yield a request wherever a gradient is wanted; runs without autograd."""

    # ---- stepping ----------------------------------------------------------------

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
            UsageError: inside another loop of this optimizer, which ends with that.
        """
        if self._close():
            raise UsageError(
                "another passes() loop of this optimizer was still open; finish it "
                "before the next one (it has been closed, and the weights are clean)."
            )
        self._ready = False
        loop = self._passes(accumulate)
        self._open = weakref.ref(loop)
        return loop

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step with the gradient of the finished passes, or run them on a closure.

        Args:
            closure: computes the loss, calls `backward()` and returns the loss, as for
                `torch.optim.LBFGS`; called once per pass.

        Returns:
            With a closure, the loss at the unperturbed weights; for a method that
            never evaluates there, the mean loss over its passes.
        """
        loss = None if closure is None else self._evaluate(closure)
        self._close()
        if not self._ready:
            raise UsageError(
                "step() needs the gradient of a finished passes() loop; run "
                "`for _ in opt.passes(): loss_fn(model(x), y).backward()` before it, "
                "or call step(closure)."
            )
        self._ready = False
        for base in self.bases:
            base.step()
        self.steps += 1
        return loss

    def take(self, *batch: Any) -> Any:
        """The share of a batch that this pass is about.

        Methods that split a batch into micro-batches (LPF-SGD) ask for one share per
        pass; all others get the whole batch. Without `take` every pass runs on the
        whole batch, which is right too but costs as many gradients as there are shares.

        Args:
            batch: tensors, or nested lists and dicts of them, with rows along dim 0.
        """
        if self._sum is None:
            raise UsageError("take() belongs inside a passes() loop or a closure.")
        share = self._sum.take(batch)
        return share[0] if len(share) == 1 else share

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch, but a pass that adds to earlier ones keeps their sum."""
        if self._sum is None:
            self._ready = False
        if self._sum is None or not self._sum.adds:
            super().zero_grad(set_to_none)

    def _passes(self, accumulate: bool) -> Generator[int, None, None]:
        groups = self.param_groups
        self._settings.apply(groups, self.steps)
        params = [p for group in groups for p in group["params"]]
        running = [p.grad for p in params] if accumulate else None
        self._weights.begin(groups)
        plan = self.plan(self._weights)
        statistics: BufferSnapshot | None = None
        random = RandomState(params) if self._rng == "replay" else None
        self._sum = total = ShareSum(params)
        finished = False
        index = 0
        try:
            while (request := _advance(plan)) is not None:
                if not total.holds(request):
                    continue
                total.begin(request)
                if random is not None and index > 0:
                    random.put_back()
                yield index
                index += 1
                if not total.end():
                    raise UsageError(
                        f"no parameter has a gradient after pass {index}; call "
                        "backward() on the loss in every pass."
                    )
                if index == 1 and self._statistics_of is not None:
                    statistics = BufferSnapshot(self._statistics_of)
            total.finish()
            self._weights.spread_doubt()
            finished = True
        finally:
            with torch.no_grad():
                plan.close()
            if statistics is not None:
                statistics.put_back()
            self._sum = None
            if running is not None:
                add_running(params, running, add=finished)
            self._ready = finished

    def _evaluate(self, closure: Callable[[], float]) -> float:
        clean: float | None = None
        mean: float | Tensor = 0.0
        shares = 0.0
        for _ in self.passes():
            with torch.enable_grad():
                loss = closure()
            if loss is None:
                raise UsageError("the closure must return the loss, got None.")
            if self._weights.depth == 0 and clean is None:
                clean = loss
            assert self._sum is not None  # inside the loop there is one
            value = loss.detach() if isinstance(loss, Tensor) else loss
            mean = mean + value * self._sum.weight
            shares += self._sum.weight
        return clean if clean is not None else mean / shares  # type: ignore[return-value]

    def _close(self) -> bool:
        """Close a loop that is still open; tells whether there was one."""
        loop = self._open() if self._open is not None else None
        self._open = None
        if loop is None or inspect.getgeneratorstate(loop) == inspect.GEN_CLOSED:
            return False
        loop.close()
        return True

    # ---- groups and saving -------------------------------------------------------

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
        if "bases" not in self.__dict__:
            return {}
        if len(self.bases) == 1:
            return self.bases[0].state
        return {p: state for base in self.bases for p, state in base.state.items()}

    @state.setter
    def state(self, _: Any) -> None:
        if "bases" in self.__dict__:
            raise UsageError("the state belongs to the base; set it there.")

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

    def state_dict(self) -> dict[str, Any]:
        """State of the bases in torch's form, and under "steppe" that of the method.

        A state of a single base that stands alone can be loaded too.
        """
        state = joined_state(self.bases)
        generator = self.generator
        state["steppe"] = {
            "format": STATE_FORMAT,
            "method": type(self).__name__,
            "steps": self.steps,
            "generator": None if generator is None else generator.get_state(),
        }
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        As in torch, settings in the saved groups win over those given to the
        constructor; a state of the base alone leaves them as they are.

        Raises:
            CheckpointError: the state of another method, of other groups or of a newer
                version; nothing has been loaded then.
        """
        self._close()
        own = state_dict.get("steppe")
        self._check_state(own)
        for base, part in parted_state(state_dict, self.bases):
            previous = [dict(group) for group in base.param_groups]
            base.load_state_dict(part)
            self._settings.adopt(base.param_groups, previous)
        self._ready = False
        self.steps = own["steps"] if own is not None else 0
        if own is not None and self.generator is not None:
            self.generator.set_state(own["generator"].cpu())

    def _check_state(self, own: Mapping[str, Any] | None) -> None:
        if own is None:  # of the base alone
            return
        method = type(self).__name__
        if own["format"] > STATE_FORMAT:
            raise CheckpointError(
                f"the state has format {own['format']}, this steppe reads up to "
                f"{STATE_FORMAT}; upgrade steppe."
            )
        if own["method"] != method:
            raise CheckpointError(
                f"the state is of {own['method']}, not of {method}; "
                f"make a {own['method']} to continue it."
            )

    def __getstate__(self) -> dict[str, Any]:
        """All but what belongs to a running loop; an LR scheduler patches `step`."""
        idle = {"_open": None, "_ready": False, "_sum": None, "_weights": Weights()}
        return {**{k: v for k, v in self.__dict__.items() if k != "step"}, **idle}


def _checked_bases(base: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    bases = tuple(base) if isinstance(base, list | tuple) else (base,)
    if not bases or not all(isinstance(each, Optimizer) for each in bases):
        raise SettingError(
            "base must be a torch.optim.Optimizer instance or a list of them, such as "
            f"torch.optim.SGD(model.parameters(), lr=0.1); got {base!r}."
        )
    for each in bases:
        if isinstance(each, torch.optim.LBFGS):
            raise SettingError(
                "LBFGS evaluates the loss by itself and cannot be a base; use one that "
                "steps with p.grad, such as SGD or Adam."
            )
        if isinstance(each, AbstractOptimizer):
            raise SettingError(
                f"base must be a plain optimizer, got {type(each).__name__}; "
                "one method cannot wrap another."
            )
    return bases


def _advance(plan: Plan) -> Request | None:
    """Run the method up to its next request; None when it is done."""
    with torch.no_grad():
        return next(plan, None)


def _count(base: Optimizer) -> int:
    return sum(len(group["params"]) for group in base.param_groups)
