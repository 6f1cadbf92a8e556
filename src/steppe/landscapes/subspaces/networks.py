"""Subspaces through several networks of the same structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from steppe.errors import SettingError
from steppe.landscapes.buffers import buffers_of, check_same, shapes
from steppe.landscapes.subspaces.abstract import Axis
from steppe.parameters import check_model, trainable

NAMES = "abcdefgh"  # of networks in messages and on axes


def through_networks(first: nn.Module, others: Sequence[nn.Module]) -> dict[str, Any]:
    """Fields of the subspace with one network at the base, each other one at 1.

    Args:
        first: at the base point; its parameters that require a gradient move.
        others: at coordinate 1 of an axis each.

    Raises:
        SettingError: networks with other parameters or buffers than the first, or with
            other values of those that are frozen there.
    """
    for letter, model in zip(NAMES, [first, *others], strict=False):
        check_model(model, f"model_{letter}")
    moving, own = trainable(first), dict(first.named_parameters())
    base = tuple(p.detach().clone() for p in moving.values())
    buffers = buffers_of(first)
    ends, end_buffers = [], []
    for model in others:
        there, statistics = dict(model.named_parameters()), buffers_of(model)
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
        end_buffers.append({k: v.to(buffers[k]) for k, v in statistics.items()})
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
