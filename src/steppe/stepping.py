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

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves, tree_map

from steppe.errors import CheckpointError, SettingError, UsageError
from steppe.keeping import Buffers, RandomState, add_running, regain_sums, scale_grads
from steppe.registry import OptimizerSpec, Registry
from steppe.schedules import Schedule
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
            (running statistics of batch norm), "all" keeps every pass's. Needs `model`.
        rng: "fresh" draws new dropout masks in every pass, "replay" the same ones.
        generator: of the method's own draws; its state is saved with the optimizer.

    Raises:
        SettingError: a setting out of its range, or a policy that does not exist.
    """

    bounds: ClassVar[Mapping[str, tuple[float, float]]]  # closed range of settings

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        settings: Mapping[str, float | Schedule],
        model: nn.Module | None = None,
        batch_norm: Literal["first", "all"] = "first",
        rng: Literal["fresh", "replay"] = "fresh",
        generator: torch.Generator | None = None,
    ) -> None:
        if batch_norm not in ("first", "all"):
            raise SettingError(
                f"batch_norm must be 'first' or 'all', got {batch_norm!r}."
            )
        if rng not in ("fresh", "replay"):
            raise SettingError(f"rng must be 'fresh' or 'replay', got {rng!r}.")
        bases = _checked_bases(base)
        own = [group for each in bases for group in each.param_groups]
        values = {k: v(0) if callable(v) else v for k, v in settings.items()}
        fixed = {name: [name in group for group in own] for name in settings}
        super().__init__([{"params": group["params"]} for group in own], {})
        self.bases: tuple[Optimizer, ...] = bases
        self.defaults = {**bases[0].defaults, **values, "perturb": True}
        self._settings = {**values, "perturb": True}
        self._schedules = {k: v for k, v in settings.items() if callable(v)}
        self._fixed = fixed
        self._model = model
        self._batch_norm = batch_norm
        self._rng = rng
        self.generator = generator
        self.steps = 0  # completed optimizer steps
        self._open: weakref.ref[Generator[int, None, None]] | None = None
        self._ready = False  # p.grad is the gradient of finished passes
        self._request: Request | None = None  # of the running pass
        self._rows: float = math.inf  # of the batch that is being shared out
        self._weight = 1.0  # of the running pass's share in that batch
        self._link()

    @abstractmethod
    def plan(self, weights: Weights) -> Plan:
        """Yield a request wherever a gradient is wanted; runs without autograd."""

    # ---- stepping ----------------------------------------------------------------

    def passes(self, *, accumulate: bool = False) -> Iterator[int]:
        """Loop over the gradient passes of one step; yields their number from 0.

        Args:
            accumulate: add the resulting gradient to what `p.grad` holds already,
                which makes several loops per `step()` one step over micro-batches,
                each with a perturbation of its own (m-sharpness).
        """
        self._close()
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
        request = self._request
        if request is None:
            raise UsageError("take() belongs inside a passes() loop or a closure.")
        if request.parts > 1:
            batch = self._share(batch, request)
        return batch[0] if len(batch) == 1 else batch

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As in torch, but a pass that adds to earlier ones keeps their sum."""
        if self._request is None or self._request.part == 0:
            super().zero_grad(set_to_none)

    def _passes(self, accumulate: bool) -> Generator[int, None, None]:
        self._apply_schedules()
        params = [p for group in self.param_groups for p in group["params"]]
        running = [p.grad for p in params] if accumulate else None
        weights = self._weights
        plan = self.plan(weights)
        buffers = Buffers(self._model if self._batch_norm == "first" else None)
        random = RandomState(params) if self._rng == "replay" else None
        finished = False
        index = 0
        try:
            while (request := _advance(plan)) is not None:
                if request.part >= self._rows:  # a short batch has fewer shares
                    continue
                self._request = request
                kept = self._before_pass(params, request)
                if random is not None and index > 0:
                    random.put_back()
                yield index
                self._after_pass(params, kept, index)
                if index == 0:
                    buffers.keep()
                index += 1
            self._finish(params)
            finished = True
        finally:
            with torch.no_grad():
                plan.close()
            buffers.put_back()
            self._request = None
            self._weight, self._rows = 1.0, math.inf
            if running is not None:
                add_running(params, running, add=finished)
            self._ready = finished

    def _before_pass(
        self, params: list[Tensor], request: Request
    ) -> list[Tensor | None] | None:
        if request.part == 0:
            for p in params:
                p.grad = None
            self._weight = 1.0 / request.parts
            return None
        return [p.grad for p in params]

    def _after_pass(
        self, params: list[Tensor], kept: list[Tensor | None] | None, index: int
    ) -> None:
        if kept is not None:
            regain_sums(params, kept)
        if all(p.grad is None for p in params):
            raise UsageError(
                f"no parameter has a gradient after pass {index + 1}; call "
                "backward() on the loss in every pass."
            )

    def _finish(self, params: list[Tensor]) -> None:
        if self._weight != 1.0:
            scale_grads(params, self._weight)

    def _share(self, batch: tuple[Any, ...], request: Request) -> tuple[Any, ...]:
        rows = len(tree_leaves(batch)[0])
        if not rows:
            raise UsageError("take() got a batch without rows; skip empty batches.")
        self._rows = rows
        sizes = [len(t) for t in torch.arange(rows).tensor_split(request.parts)]
        self._reweigh(
            [p for group in self.param_groups for p in group["params"]],
            sizes[request.part] / rows,
        )

        def share(leaf: Any) -> Any:
            whole = isinstance(leaf, Tensor) and leaf.dim() > 0
            return leaf.tensor_split(request.parts)[request.part] if whole else leaf

        return tuple(tree_map(share, part) for part in batch)

    def _reweigh(self, params: list[Tensor], weight: float) -> None:
        # p.grad is the sum so far in units of the current share's weight, so that
        # the passes may simply add to it.
        if weight != self._weight:
            scale_grads(params, self._weight / weight)
            self._weight = weight

    def _evaluate(self, closure: Callable[[], float]) -> float:
        clean: float | None = None
        mean: float | Tensor = 0.0
        shares = 0.0
        for _ in self.passes():
            with torch.enable_grad():
                loss = closure()
            if self._weights.depth == 0 and clean is None:
                clean = loss
            value = loss.detach() if isinstance(loss, Tensor) else loss
            mean = mean + value * self._weight
            shares += self._weight
        return clean if clean is not None else mean / shares  # type: ignore[return-value]

    def _apply_schedules(self) -> None:
        for name, schedule in self._schedules.items():
            value = schedule(self.steps)
            for group, fixed in zip(self.param_groups, self._fixed[name], strict=True):
                if not fixed:
                    group[name] = value
        self._check_settings()

    def _check_settings(self) -> None:
        for name, (low, high) in self.bounds.items():
            for group in self.param_groups:
                check_range(name, group[name], low, high)

    def _close(self) -> None:
        loop = self._open() if self._open is not None else None
        if loop is not None:
            loop.close()
        self._open = None

    # ---- groups and saving -------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base; with several bases, add it to one of them."""
        if "bases" not in self.__dict__:  # called by torch while we are being made
            super().add_param_group(param_group)
            return
        if len(self.bases) > 1:
            raise UsageError(
                "with several bases it is open which one gets the group; make the "
                "optimizer anew with the group in its base."
            )
        for name in self._fixed:
            self._fixed[name].append(name in param_group)
        self.bases[0].add_param_group(param_group)
        self._link()

    def state_dict(self) -> dict[str, Any]:
        """State of the bases in torch's form, and under "steppe" that of the method.

        A state of a single base that stands alone can be loaded too.
        """
        state: dict[str, Any] = {"state": {}, "param_groups": []}
        offset = 0
        for base in self.bases:
            part = base.state_dict()
            state["state"] |= {offset + i: s for i, s in part["state"].items()}
            for group in part["param_groups"]:
                moved = [offset + i for i in group["params"]]
                state["param_groups"].append({**group, "params": moved})
            offset += _count(base)
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

        Raises:
            CheckpointError: the state of another method or of a newer version.
        """
        self._close()
        own = state_dict.get("steppe")
        if own is not None:
            self._check_state(own)
        offset = group_at = 0
        for base in self.bases:
            groups = state_dict["param_groups"]
            mine = groups[group_at : group_at + len(base.param_groups)]
            size = _count(base)
            part = {
                "state": {
                    i - offset: s
                    for i, s in state_dict["state"].items()
                    if offset <= i < offset + size
                },
                "param_groups": [
                    {**group, "params": [i - offset for i in group["params"]]}
                    for group in mine
                ],
            }
            base.load_state_dict(part)
            offset += size
            group_at += len(mine)
        self._ready = False
        self._link()
        self.steps = own["steps"] if own is not None else 0
        if own is not None and self.generator is not None:
            self.generator.set_state(own["generator"].cpu())

    def _check_state(self, own: Mapping[str, Any]) -> None:
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

    def _link(self) -> None:
        """Share groups and state with the bases, which replace them on loading."""
        if len(self.bases) == 1:
            self.param_groups = self.bases[0].param_groups
            self.state = self.bases[0].state
        else:
            self.param_groups = [g for base in self.bases for g in base.param_groups]
        for group in self.param_groups:
            for name, value in self._settings.items():
                group.setdefault(name, value)
        self._check_settings()
        self._weights = Weights(self.param_groups)

    def __getstate__(self) -> dict[str, Any]:
        """All but what belongs to a running loop; an LR scheduler patches `step`."""
        idle = {"_open": None, "_ready": False, "_request": None}
        dropped = {"_weights", "step"}
        kept = {k: v for k, v in self.__dict__.items() if k not in dropped}
        return {**kept, **idle}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._link()


def check_range(
    name: str, value: float, low: float = -math.inf, high: float = math.inf
) -> None:
    """Refuse a number outside [low, high], or one that is no number."""
    if low <= value <= high:  # false for NaN
        return
    rule = f">= {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    raise SettingError(f"{name} must be {rule}, got {value}.")


def _checked_bases(base: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    bases = tuple(base) if isinstance(base, list | tuple) else (base,)
    if not bases or not all(isinstance(each, Optimizer) for each in bases):
        raise SettingError(
            "base must be a torch.optim.Optimizer instance or a list of them, such as "
            f"torch.optim.SGD(model.parameters(), lr=0.1); got {base!r}."
        )
    for each in bases:
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
