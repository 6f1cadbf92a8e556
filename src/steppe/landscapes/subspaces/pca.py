"""Subspaces along the principal components of checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from steppe.errors import SettingError, check_choice, check_count
from steppe.landscapes.buffers import buffers_of
from steppe.landscapes.checkpoints import (
    Checkpoint,
    check_frozen,
    label_of,
    listed,
    read,
)
from steppe.landscapes.directions.ignoring import Ignore, ignored_by
from steppe.landscapes.directions.pca import Center, principal_components
from steppe.landscapes.subspaces.abstract import Axis
from steppe.parameters import trainable

BUDGET = 2**31  # bytes of checkpoints in memory at once
MARGIN = 0.1  # of the range that the checkpoints take, on either side at least
DIGITS = 12  # binary ones of a tenth of the range


def pca_subspace(
    checkpoints: Iterable[Checkpoint],
    components: int,
    model: nn.Module | None,
    center: Center,
    ignore: Ignore,
    budget: int,
) -> dict[str, Any]:
    """Fields of a subspace through checkpoints along their principal components.

    Args:
        checkpoints: in the order of the training.
        components: one for each axis.
        model: see `Plane.pca`.
        center: see `Plane.pca`.
        ignore: see `Plane.pca`.
        budget: see `Plane.pca`.
    """
    check_choice("center", center, get_args(Center))
    check_count("budget", budget, 1)
    several = listed(checkpoints, components + 1)
    model = _model_among(several) if model is None else model
    own = trainable(model)
    ignored = ignored_by(ignore, own)
    moved = [name for name, p in own.items() if not ignored.leaves(name, p)]
    if not moved:
        raise SettingError(
            "ignore='biasbn' leaves out all parameters of this model; pass "
            "ignore='none'."
        )

    def tensors(number: int) -> Sequence[Tensor]:
        label = label_of(several[number], number)
        state = read(several[number], own, label)
        check_frozen(model, state, label)
        return [state[name] for name in moved]

    principal = principal_components(tensors, len(several), components, center, budget)
    base, buffers = _base(several, model, center)
    directions = []
    for each in principal.directions:
        by_name = dict(zip(moved, each, strict=True))
        directions.append(
            tuple(
                by_name[n].to(p) if n in by_name else torch.zeros_like(p).detach()
                for n, p in own.items()
            )
        )
    return {
        "names": tuple(own),
        "base": base,
        "directions": tuple(directions),
        "axes": tuple(
            Axis(
                unit=f"distance, {100 * float(share):.3g} % of the variance",
                range=_range(principal.coordinates[:, k]),
            )
            for k, share in enumerate(principal.variance_ratio)
        ),
        "buffers": buffers,
        # Those of one checkpoint would be wrong all along the training.
        "batch_norm": "reestimate",
        "details": {
            "subspace": "pca",
            "center": center,
            "ignore": ignore,
            **principal.details,
        },
    }


def _model_among(checkpoints: Sequence[Checkpoint]) -> nn.Module:
    if isinstance(checkpoints[-1], nn.Module):
        return checkpoints[-1]
    raise SettingError(
        "a state_dict does not say which of its tensors are parameters; pass model=, a "
        "network of the same structure."
    )


def _base(
    checkpoints: Sequence[Checkpoint], model: nn.Module, center: Center
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Parameters at the base, and the buffers of the checkpoint that is there.

    A mean has no buffers of its own: those of the last checkpoint stand in.
    """
    own, buffers = trainable(model), buffers_of(model)
    at = 0 if center == "first" else len(checkpoints) - 1
    state = read(checkpoints[at], own, label_of(checkpoints[at], at))
    for name in buffers.keys() & state.keys():
        buffers[name] = state[name].detach().to(buffers[name], copy=True)
    if center != "mean":
        return tuple(
            state[n].detach().to(p, copy=True) for n, p in own.items()
        ), buffers
    totals = [torch.zeros_like(p, dtype=torch.float64).detach() for p in own.values()]
    for number, checkpoint in enumerate(checkpoints):
        state = read(checkpoint, own, label_of(checkpoint, number))
        for total, name in zip(totals, own, strict=True):
            total.add_(state[name].detach().to(total))
    means = [total / len(checkpoints) for total in totals]
    return tuple(m.to(p) for m, p in zip(means, own.values(), strict=True)), buffers


def _range(coordinates: Tensor) -> tuple[float, float]:
    """A range with all checkpoints in it, and the base at one of its tenths.

    Grids of 11, 21, 31 points and so on have a point at the base then, exactly.
    """
    low = min(0.0, float(coordinates.min()))
    high = max(0.0, float(coordinates.max()))
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    tenths = {j: max(-low / j, high / (10 - j)) for j in range(1, 10)}
    below = min(tenths, key=lambda j: tenths[j])
    # Few binary digits, upwards: their small multiples have no rounding errors.
    mantissa, exponent = math.frexp(tenths[below])
    step = math.ldexp(math.ceil(mantissa * 2**DIGITS), exponent - DIGITS)
    return -below * step, (10 - below) * step
