"""GSAM with the constructor and the calls of its authors' PyTorch code.

::

    optimizer.set_closure(loss_fn, inputs, targets)
    predictions, loss = optimizer.step()
    lr_scheduler.step()
    optimizer.update_rho_t()

The signatures are those of github.com/juntang-zhuang/GSAM. Differences from that code:
those of `steppe.GSAM` and of `steppe.compat.gsam_schedulers`; a saved state holds the
state of the base and of the radius, and no gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steppe.compat.front import Front
from steppe.compat.gsam_schedulers import Scheduler
from steppe.errors import SettingError, UsageError
from steppe.geometry import Adaptive
from steppe.optimizers import gsam
from steppe.stepping.state_dicts import reading


class GSAM(Front):
    """GSAM as its authors' code calls it.

    Args:
        params: those of `base_optimizer`.
        base_optimizer: the optimizer that takes the step, an instance.
        model: what `set_closure` evaluates; running statistics are those of the first
            pass. With a `DistributedDataParallel` every process perturbs by its own
            gradient.
        gsam_alpha: weight of the orthogonal part, >= 0.
        rho_scheduler: of the radius, from `steppe.compat`.
        adaptive: a radius relative to the weights, `Adaptive(style="davda54")`.
        perturb_eps: 1e-12, which holds norms away from zero.
        grad_reduce: "mean" over processes.

    Raises:
        SettingError: a value that has no counterpart here.
    """

    of_one_step: ClassVar = frozenset({"_evaluate"})
    _evaluate: Callable[[], Any] | None = None

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Optimizer,
        model: nn.Module,
        gsam_alpha: float,
        rho_scheduler: Scheduler,
        adaptive: bool = False,
        perturb_eps: float = 1e-12,
        grad_reduce: str = "mean",
        **kwargs: Any,
    ) -> None:
        _check(perturb_eps, grad_reduce, rho_scheduler, kwargs)
        method = gsam.GSAM(
            base_optimizer,
            rho=_Present(rho_scheduler),
            alpha=gsam_alpha,
            geometry=Adaptive(style="davda54") if adaptive else None,
            model=model,
        )
        super().__init__(method)
        _check_same(params, self._params())
        self.model = model
        self.rho_scheduler = rho_scheduler

    @property
    def base_optimizer(self) -> Optimizer:
        """The optimizer that takes the step."""
        return self.optimizer.bases[0]

    @property
    def rho_t(self) -> float:
        """The radius of the present step."""
        return self.rho_scheduler.value

    def update_rho_t(self) -> float:
        """Go on to the radius of the next step, and return it."""
        self.rho_scheduler.step()
        return self.rho_t

    def set_closure(
        self, loss_fn: Callable[..., Tensor], inputs: Any, targets: Any, **kwargs: Any
    ) -> None:
        """Set the loss function and the data of the next steps.

        Args:
            loss_fn: takes predictions and targets, gives the loss.
            inputs: what the model is called with.
            targets: of the batch.
            kwargs: of `loss_fn`.
        """

        def evaluate() -> tuple[Any, Tensor]:
            outputs = self.model(inputs)
            loss = loss_fn(outputs, targets, **kwargs)
            loss.backward()  # type: ignore[no-untyped-call]
            return outputs, loss.detach()

        self._evaluate = evaluate

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; both its passes are run here.

        Args:
            closure: calls `backward()` and returns predictions and loss; None for what
                `set_closure` said. Gradients are cleared before each call.

        Returns:
            Predictions and loss at the unperturbed weights.
        """
        evaluate = closure or self._evaluate
        if evaluate is None:
            raise UsageError("step() needs set_closure() before it, or a closure.")
        results = []
        for _ in self.optimizer.passes():
            with torch.enable_grad():
                result = evaluate()
            if result is None:
                raise UsageError(
                    "the closure must return predictions and loss, got None; under "
                    "Lightning's manual optimization, see "
                    "steppe.integrations.lightning.step."
                )
            results.append(result)
            self.optimizer.report(results[-1][1])
        self.optimizer.step()
        return results[0]

    def state_dict(self) -> dict[str, Any]:
        """State of the base and of the method, and of the radius."""
        own = {"rho_scheduler": self.rho_scheduler.state_dict()}
        return {**self.optimizer.state_dict(), **own}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state, of the authors' code too.

        That one lacks the state of the base and of the radius, which is warned of.

        Raises:
            CheckpointError: the state of another method or of other groups; nothing
                has been loaded then.
        """
        with reading(type(self).__name__):
            if any("old_g" in state for state in state_dict["state"].values()):
                state_dict = _without_gradients(state_dict)
            before = self.rho_scheduler.state_dict()
            try:
                if "rho_scheduler" in state_dict:
                    self.rho_scheduler.load_state_dict(state_dict["rho_scheduler"])
                self.optimizer.load_state_dict(state_dict)
            except BaseException:
                self.rho_scheduler.load_state_dict(before)
                raise


@dataclass(frozen=True)
class _Present:
    """The present value of a scheduler that somebody else steps."""

    scheduler: Scheduler

    def __call__(self, step: int) -> float:
        return self.scheduler.value


def _check(
    perturb_eps: float, grad_reduce: str, rho_scheduler: Any, more: Mapping[str, Any]
) -> None:
    if perturb_eps != 1e-12:
        raise SettingError(
            f"perturb_eps is 1e-12 here, got {perturb_eps}; leave it out."
        )
    if grad_reduce != "mean":
        raise SettingError(
            f"grad_reduce must be 'mean', got {grad_reduce!r}; for a sum multiply the "
            "learning rate by the number of processes."
        )
    if not isinstance(rho_scheduler, Scheduler):
        raise SettingError(
            "rho_scheduler must be one of steppe.compat such as LinearScheduler, got "
            f"{rho_scheduler!r}; for a plain function of the step use steppe.GSAM."
        )
    if more:
        raise SettingError(
            f"{', '.join(sorted(more))} belong to the base optimizer, which is made "
            "already; give them there."
        )


def _check_same(passed: Iterable[Any], held: list[Tensor]) -> None:
    groups = [g["params"] if isinstance(g, dict) else [g] for g in passed]
    ours = {id(p) for p in held}
    strange = [p for group in groups for p in group if id(p) not in ours]
    if strange:
        raise SettingError(
            f"params has {len(strange)} tensors that base_optimizer does not hold; "
            "make both over the same parameters."
        )


def _without_gradients(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    warnings.warn(
        "this state is of the published GSAM (it holds 'old_g'), which saves neither "
        "the momentum or moments of its base nor its radius: settings are loaded, the "
        "rest starts afresh.",
        stacklevel=3,
    )
    return {**state_dict, "state": {}}
