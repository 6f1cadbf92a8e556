"""Nudged SGD (NSGD): change the part of the step that lies in the sharpest directions.

Source: Jastrzebski, Kenton, Ballas, Fischer, Bengio, Storkey, 2019, arXiv:1807.05031,
Section 4.

Differences from the authors' code: the displacement of any base is corrected, weight
decay and adaptive scaling included, which for SGD is the published update; directions
may come from anywhere and are made orthonormal; `gamma` may change during training,
which the published code ignores. As there, the momentum of the base is not corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError, UsageError, check_choice
from steppe.parameters import unflatten
from steppe.registry.bounds import at_least
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import (
    AFTER_STEP,
    FINAL_GRADIENT,
    FULL_BATCH,
    Plan,
    StepContext,
)
from steppe.stepping.driver import OPTIMIZERS, AbstractOptimizer
from steppe.stepping.options import OptimizerOptions
from steppe.stepping.wrapper import has_modes
from steppe.vectors import joint_dot, joint_norm

Directions = Tensor | Sequence[Sequence[Tensor]]
Provider = Callable[[int], Directions | None]
Basis = list[list[Tensor]]  # K directions, each of P tensors shaped like the parameters
COUNT, TAKEN = "directions", "directions_taken"  # numbers that are remembered


@OPTIMIZERS.add(
    "nsgd",
    source="Jastrzebski et al., 2019, arXiv:1807.05031",
    grad_evals=1,
    beside="what finding the directions costs, each time they are asked for",
    limits=(Limit(settings={}), Limit(settings={"gamma": 1.0})),
    example={"gamma": 0.1},
    takes_directions=True,
)
class NSGD(AbstractOptimizer):
    """Step with the base, the part of the step in given directions scaled by gamma.

    With P the directions, orthonormal as columns, and D the displacement that the base
    makes, the weights move by D + (gamma - 1) P P^T D. The directions are meant to be
    the top eigenvectors of the Hessian::

        def sharpest(step):
            return steppe.eigsh(steppe.Hessian(objective), k=5).vectors


        opt = steppe.NSGD(base, directions=sharpest, refresh_every=400)

    Args:
        base: the optimizer that takes the step, or several that share one subspace.
        gamma: factor of the part of the step in the subspace, >= 0, or a schedule of
            it. 1 gives back the base, 0 leaves the subspace alone.
        directions: K directions over the D entries of all trainable parameters in the
            order of the groups: a matrix (D, K), or K lists of tensors shaped like the
            parameters; or a function of the number of completed steps that gives them,
            None to keep what there is; random ones are the paper's control. None steps
            as the base does until `set_directions`. Parameters that `perturb` excludes
            are stepped by the base alone; several processes need the same directions.
        refresh_every: steps after which the function is asked again, >= 1.
        type: what is corrected: the "displacement", the "gradient" before the base
            sees it, or "both".
        options: model, batch_norm, rng, gate, perturb, sync, scaler, monitor: see
            `OptimizerOptions`.

    Raises:
        SettingError: a schedule-free base, whose weights to predict with would not
            follow a corrected displacement; it allows type="gradient".
    """

    bounds: ClassVar = {"gamma": (0.0, math.inf), "refresh_every": at_least(1)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        gamma: float | Schedule = 0.1,
        directions: Directions | Provider | None = None,
        refresh_every: int = 100,
        type: Literal["displacement", "gradient", "both"] = "displacement",
        **options: Unpack[OptimizerOptions],
    ) -> None:
        check_choice("type", type, ("displacement", "gradient", "both"))
        fixed = {"refresh_every": refresh_every}
        super().__init__(base, settings={"gamma": gamma}, fixed=fixed, **options)
        both = [each for each in self.bases if has_modes(each)]
        if both and type != "gradient":
            raise SettingError(
                f"{both[0].__class__.__name__} keeps two sets of weights in step, of "
                "which a corrected displacement would move one; use type='gradient', "
                f"got {type!r}."
            )
        self.refresh_every = refresh_every
        self.type = type
        self._turn = 0  # of the passes, so that only the last ones change the step
        self.set_directions(directions)

    def set_directions(self, directions: Directions | Provider | None) -> None:
        """Use other directions from the next passes on; None for the plain base.

        Once in use they are saved with the optimizer; a loaded state brings its own,
        and that of a base alone brings none.

        Args:
            directions: as for the class.

        Raises:
            UsageError: directions that do not fit the parameters, that are not finite
                or not independent; nothing has been changed then.
        """
        if directions is not None and not callable(directions):
            orthonormal(_parted(directions, self._trainable()))
        self._source = directions
        self._drop_directions()
        self._method_state.numbers.pop(TAKEN, None)

    def plan(self, step: StepContext) -> Plan:
        """Take the gradient of the base; change it, its displacement, or both."""
        params = step.perturbed()
        taken = self._taken(step, params)
        basis = self._remembered(params) if taken is None else taken
        gamma = step.setting("gamma", params)
        nudges = bool(basis) and any(g != 1.0 for g in gamma)
        nudges_gradient = nudges and self.type != "displacement"
        yield FULL_BATCH if nudges_gradient else FINAL_GRADIENT
        if taken is not None:
            self._use(params, taken, step.number)
        if nudges_gradient:
            for p in params:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            grads = step.with_grad()[1]
            torch._foreach_add_(grads, nudge(grads, basis, gamma))
        if not nudges or self.type == "gradient":
            return
        self._turn += 1
        turn, before = self._turn, [p.detach().clone() for p in params]
        yield AFTER_STEP
        if turn == self._turn:
            moved = list(torch._foreach_sub(params, before))
            torch._foreach_add_(params, nudge(moved, basis, gamma))

    def _taken(self, step: StepContext, params: list[Tensor]) -> Basis | None:
        """New directions, where they are due and there are any."""
        last = self._method_state.numbers.get(TAKEN)
        asks = callable(self._source)
        due = last is None or (asks and step.number - last >= self.refresh_every)
        if self._source is None or not due:
            return None
        with torch.enable_grad():
            given = (
                self._source(step.number) if callable(self._source) else self._source
            )
        if given is None:
            return None
        whole = self._trainable()
        places = [i for i, p in enumerate(whole) if p in set(params)]
        return orthonormal([[d[i] for i in places] for d in _parted(given, whole)])

    def _use(self, params: list[Tensor], basis: Basis, number: int) -> None:
        self._drop_directions()
        for k, direction in enumerate(basis):
            self._method_state.set(f"direction{k}", params, direction)
        self._method_state.numbers |= {COUNT: len(basis), TAKEN: number}
        if not callable(self._source):
            self._source = None  # a copy is in use now

    def _drop_directions(self) -> None:
        for k in range(int(self._method_state.numbers.pop(COUNT, 0))):
            self._method_state.drop(f"direction{k}")

    def _remembered(self, params: list[Tensor]) -> Basis:
        count = int(self._method_state.numbers.get(COUNT, 0))
        return [self._method_state.get(f"direction{k}", params) for k in range(count)]

    def _trainable(self) -> list[Tensor]:
        return [p for p in self._params() if p.requires_grad]


@torch.no_grad()
def nudge(tensors: list[Tensor], basis: Basis, gamma: Sequence[float]) -> list[Tensor]:
    """Correction of joint tensors t: (gamma - 1) P P^T t.

    Args:
        tensors: P tensors.
        basis: K orthonormal directions of P tensors each.
        gamma: P factors.
    """
    inside = [torch.zeros_like(t) for t in tensors]
    for direction in basis:
        share = joint_dot(direction, tensors)
        shares = [share.to(part.device) for part in direction]
        torch._foreach_add_(inside, torch._foreach_mul(direction, shares))
    torch._foreach_mul_(inside, [g - 1 for g in gamma])
    return inside


@torch.no_grad()
def orthonormal(directions: Basis) -> Basis:
    """Orthonormal directions with the same spans, by Gram-Schmidt done twice.

    Args:
        directions: K joint vectors of P tensors each, kept as they are.

    Raises:
        UsageError: vectors that are not finite or not linearly independent.
    """
    basis: Basis = []
    for k, given in enumerate(directions):
        vector = [_wide(part) for part in given]
        length = joint_norm(vector)
        for _ in range(2):  # once leaves what rounding puts back
            for unit in basis:
                share = joint_dot(unit, vector)
                shares = [share.to(part.device) for part in unit]
                torch._foreach_sub_(vector, torch._foreach_mul(unit, shares))
        rest = joint_norm(vector)
        if not rest > 1e-6 * length:  # not a number either
            raise UsageError(
                f"direction {k} is zero, not finite or within the span of earlier "
                "ones; give linearly independent directions, or None for no new ones."
            )
        torch._foreach_div_(vector, [rest.to(part.device) for part in vector])
        basis.append(vector)
    return [
        [part.to(like.dtype) for part, like in zip(unit, given, strict=True)]
        for unit, given in zip(basis, directions, strict=True)
    ]


def _wide(part: Tensor) -> Tensor:
    return part.detach().to(torch.promote_types(part.dtype, torch.float32), copy=True)


def _parted(directions: Directions, params: list[Tensor]) -> Basis:
    """Directions as lists of tensors on the devices and in the dtypes of parameters."""
    if isinstance(directions, Tensor):
        size = sum(p.numel() for p in params)
        if directions.dim() != 2 or len(directions) != size:
            raise UsageError(
                f"directions must be a matrix with {size} rows, one per entry of the "
                f"trainable parameters, got shape {tuple(directions.shape)}."
            )
        directions = [unflatten(column, params) for column in directions.T]
    for direction in directions:
        shapes = [tuple(part.shape) for part in direction]
        if shapes != [tuple(p.shape) for p in params]:
            raise UsageError(
                "a direction must have one tensor per trainable parameter, in the "
                f"order of the groups and of the same shapes, got shapes {shapes}."
            )
    return [
        [part.to(p.device, p.dtype) for part, p in zip(direction, params, strict=True)]
        for direction in directions
    ]
