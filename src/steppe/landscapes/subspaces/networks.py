"""Subspaces through several networks of the same structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import SettingError, brief
from steppe.landscapes.buffers import buffers_of, check_same, shapes
from steppe.landscapes.subspaces.abstract import Axis
from steppe.objective import Objective
from steppe.parameters import trainable
from steppe.state_dicts import tensors_of

Network = nn.Module | Objective | Mapping[str, Tensor]

NAMES = "abcdefgh"  # of networks in messages and on axes


def through_networks(first: Network, others: Sequence[Network]) -> dict[str, Any]:
    """Fields of the subspace with one network at the base, each other one at 1.

    Args:
        first: at the base point, a network or its objective; its parameters that
            require a gradient move.
        others: at coordinate 1 of an axis each: networks, objectives or state_dicts.

    Raises:
        SettingError: networks with other parameters or buffers than the first, or with
            other values of those that are frozen there.
    """
    model = first.model if isinstance(first, Objective) else first
    if not isinstance(model, nn.Module):
        raise SettingError(
            "model_a must be a network, which says what its parameters are, got "
            f"{brief(model)}; load a state_dict into one first."
        )
    moving, own = trainable(model), dict(model.named_parameters())
    base = tuple(p.detach().clone() for p in moving.values())
    buffers = buffers_of(model)
    ends, end_buffers = [], []
    for number, other in enumerate(others, 1):
        there, statistics = _parts(f"model_{_letter(number)}", other, model)
        check_same(shapes(own), shapes(there), "parameters")
        check_same(shapes(buffers), shapes(statistics), "buffers")
        for name in own.keys() - moving.keys():
            if not torch.equal(own[name], there[name].to(own[name])):
                raise SettingError(
                    f"a subspace moves no frozen parameter, but {name} differs "
                    "between the models; let it require a gradient, or give all models "
                    "one value."
                )
        # Copies: base + (end - base) is not the end bit for bit.
        ends.append(
            tuple(there[n].detach().to(p, copy=True) for n, p in moving.items())
        )
        end_buffers.append(
            {k: v.detach().to(buffers[k], copy=True) for k, v in statistics.items()}
        )
    count = len(others)
    unit_points = [tuple(float(i == k) for i in range(count)) for k in range(count)]
    return {
        "names": tuple(moving),
        "base": base,
        "directions": tuple(
            tuple(e - p for e, p in zip(end, base, strict=True)) for end in ends
        ),
        "axes": tuple(
            Axis(unit="between the networks", range=(0.0, 1.0)) for _ in others
        ),
        "exact": dict(zip(unit_points, ends, strict=True)),
        "buffers": buffers,
        "end_buffers": tuple(end_buffers),
        # Between networks no mean of their statistics is that of the activations.
        "batch_norm": "reestimate",
        "details": {"subspace": "between" if count == 1 else "through"},
    }


def _parts(
    what: str, other: Any, model: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers of a network, by the names that a model has for them."""
    own, own_buffers = dict(model.named_parameters()), dict(model.named_buffers())
    if isinstance(other, Objective):
        other = other.model
    if isinstance(other, nn.Module):
        return (
            dict(tensors_of(what, dict(other.named_parameters()), own)),
            dict(tensors_of(what, dict(other.named_buffers()), own_buffers)),
        )
    state = tensors_of(what, other, [*own, *own_buffers])
    # A state_dict holds no buffers that are not saved, and shared tensors once for
    # each of their names.
    saved = model.state_dict().keys()
    kept = {n: b for n, b in own_buffers.items() if n not in saved}
    further = {n: t for n, t in state.items() if n not in own and n not in saved}
    params = {n: state[n] for n in own if n in state}
    buffers = {n: state[n] for n in own_buffers if n in state}
    return {**params, **further}, {**kept, **buffers}


def _letter(number: int) -> str:
    return NAMES[number] if number < len(NAMES) else str(number + 1)
