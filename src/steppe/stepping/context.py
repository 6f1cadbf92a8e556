"""Access of a method to parameters during its passes, and its requests."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.noise import Noise
from steppe.parameters import copy_, displace_, local_parts, overwrite_, reflect_
from steppe.stepping.state import MethodState, StepMetrics


@dataclass(frozen=True)
class GradientRequest:
    """A gradient is wanted here: of the whole batch, or of one share of it.

    The gradients of the shares of a batch are added, weighted by their rows, unless
    they are `separate`. A `final` gradient is stepped with as it is, so that processes
    may average it during `backward()`.
    """

    part: int = 0
    parts: int = 1
    separate: bool = False
    final: bool = False

    @property
    def adds(self) -> bool:
        """Whether the gradient is one share of a sum."""
        return self.parts > 1 and not self.separate


class AfterStep:
    """The passes are over; the method goes on when the base has stepped."""


FULL_BATCH = GradientRequest()
FINAL_GRADIENT = GradientRequest(final=True)
AFTER_STEP = AfterStep()
Plan = Generator[GradientRequest | AfterStep, None, None]


def plain_step() -> Plan:
    """The gradient of the base alone."""
    yield FINAL_GRADIENT


def advance(plan: Plan) -> GradientRequest | AfterStep | None:
    """Run a method up to its next request; None when it is done."""
    with torch.no_grad():
        return next(plan, None)


@dataclass
class MovedParameters:
    """Parameters held by a method: they may be moved, and will come back."""

    params: list[Tensor]
    saved: list[Tensor]

    def add(self, deltas: list[Tensor]) -> None:
        """Add displacements, one per parameter."""
        displace_(self.params, deltas)

    def put(self, noise: Noise) -> None:
        """Go to the values at the beginning plus a draw of noise."""
        noise.put_(self.params, self.saved)

    def mirror(self) -> None:
        """Go to the other side of the values at the beginning: from w + d to w - d."""
        reflect_(self.params, self.saved)

    def reset(self) -> None:
        """Go back to the values at the beginning, bit for bit."""
        overwrite_(self.params, self.saved)


@dataclass
class StepContext:
    """Access of a method to the parameters while its passes run."""

    method_state: MethodState = field(default_factory=MethodState)
    metrics: StepMetrics = field(default_factory=StepMetrics)
    number: int = 0  # of the step: completed optimizer steps
    depth: int = 0  # how many moves are in force; 0 means unperturbed
    params: list[Tensor] = field(default_factory=list)  # all P of the optimizer
    accumulate: bool = False  # the loop adds to the gradients of earlier ones
    stopped: bool = False  # no further pass: the base steps with the gradient there is
    _groups: Sequence[dict[str, Any]] = ()
    _keys: Mapping[str, str] = field(default_factory=dict)
    _only: frozenset[Tensor] | None = None
    _base_state: Callable[[], Mapping[Tensor, Any]] = dict
    _names: Callable[[], Mapping[Tensor, str]] = dict
    _backup: dict[Tensor, Tensor] = field(default_factory=dict)
    _known: Mapping[Tensor, str] | None = None  # names, once they have been asked for
    _doubt: Tensor | None = None

    def begin(
        self,
        groups: Sequence[dict[str, Any]],
        params: list[Tensor],
        *,
        accumulate: bool,
        keys: Mapping[str, str],
        number: int,
        only: frozenset[Tensor] | None,
        base_state: Callable[[], Mapping[Tensor, Any]],
        names: Callable[[], Mapping[Tensor, str]],
    ) -> None:
        """Start the passes of a step."""
        self._groups, self._keys, self.params = groups, keys, params
        self.accumulate, self.stopped = accumulate, False
        self._doubt, self._only = None, only
        self._base_state, self._names, self._known = base_state, names, None
        self.number, self.metrics = number, StepMetrics()

    # ---- parameters and gradients ------------------------------------------------

    def perturbed(self) -> list[Tensor]:
        """Parameters that may be moved: of groups whose `perturb` is true."""
        params = [p for p, _ in self._movable()]
        if any(p.is_complex() for p in params):
            raise UsageError(
                "a complex parameter cannot be moved; leave its group out with "
                "perturb=False, or keep real and imaginary parts as two parameters."
            )
        return params

    def with_grad(self) -> tuple[list[Tensor], list[Tensor]]:
        """Movable parameters that have a gradient, and these gradients."""
        pairs = [(p, g) for p in self.perturbed() if (g := p.grad) is not None]
        params, grads = [p for p, _ in pairs], [g for _, g in pairs]
        if any(g.is_sparse for g in grads):
            raise UsageError(
                "a sparse gradient cannot be climbed; make the embedding with "
                "sparse=False, or leave its group out with perturb=False."
            )
        return params, grads

    def gradients(self) -> dict[Tensor, Tensor]:
        """All gradients there are, of unmoved parameters too; references, no copies."""
        return {p: grad for p in self.params if (grad := p.grad) is not None}

    def setting(self, name: str, params: Sequence[Tensor]) -> list[float]:
        """The value of a setting for each of some parameters, by their group."""
        key = self._keys.get(name, name)
        groups = [group for group in self._groups if key in group]
        values = [float(group[key]) for group in groups]
        if values.count(values[0]) == len(values):
            return values[:1] * len(params)
        by_param = {
            p: value
            for group, value in zip(groups, values, strict=True)
            for p in group["params"]
        }
        return [by_param[p] for p in params]

    def base_state(self, name: str, params: Sequence[Tensor]) -> list[Tensor | None]:
        """A tensor of the base's state for each parameter; None where it has none."""
        state = self._base_state()
        found = [state.get(p, {}).get(name) for p in params]
        return [each if isinstance(each, Tensor) else None for each in found]

    def name(self, param: Tensor) -> str:
        """The name of a parameter in the model, "" where it is unknown."""
        if self._known is None:
            self._known = self._names()
        return self._known.get(param, "")

    # ---- moving ------------------------------------------------------------------

    @contextmanager
    def held(self, params: list[Tensor]) -> Iterator[MovedParameters]:
        """Let parameters be moved inside; copy the old values back at the end."""
        saved = self._save(params)
        here = MovedParameters(params, saved)
        try:
            self.depth += 1
            yield here
        finally:
            here.reset()
            self.depth -= 1

    def _save(self, params: list[Tensor]) -> list[Tensor]:
        if self.depth:
            return [p.detach().clone() for p in params]
        new = [p for p in params if not _fits(self._backup.get(p), p)]
        _warn_of_bfloat16(new)
        for p in new:
            self._backup[p] = torch.empty_like(p, requires_grad=False)
        saved = [self._backup[p] for p in params]
        copy_(saved, params)
        return saved

    def _movable(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        key = self._keys.get("perturb", "perturb")
        for group in self._groups:
            if group[key]:
                for p in group["params"]:
                    if p.requires_grad and (self._only is None or p in self._only):
                        yield p, group

    # ---- gradients that are no numbers -------------------------------------------

    def require_finite(self, norm: Tensor) -> None:
        """Let the step's gradient be NaN if this norm of an earlier one is not finite.

        A `GradScaler` then skips the step, as it does when the last pass overflows.
        """
        doubt = norm * 0
        self._doubt = doubt if self._doubt is None else self._doubt + doubt

    @torch.no_grad()
    def propagate_non_finite(self, share: Callable[[Tensor], None] | None) -> None:
        """Add NaN to the final gradient if a required norm is not finite.

        Args:
            share: spreads a NaN to other processes; None for one process.
        """
        if self._doubt is None:
            return
        if share is not None:
            share(self._doubt)
        for grad in local_parts(list(self.gradients().values())):
            if grad.numel():
                first = grad[(0,) * grad.dim()]
                first.add_(self._doubt.to(first.device, first.dtype))
                return


def _warn_of_bfloat16(params: list[Tensor]) -> None:
    if any(p.dtype == torch.bfloat16 for p in params):
        warnings.warn(
            "parameters in bfloat16 lose most of a small perturbation to rounding; "
            "keep them in float32 and run the model under torch.autocast.",
            stacklevel=2,
        )


def _fits(backup: Tensor | None, param: Tensor) -> bool:
    return (
        backup is not None
        and backup.shape == param.shape
        and backup.dtype == param.dtype
        and backup.device == param.device
    )
