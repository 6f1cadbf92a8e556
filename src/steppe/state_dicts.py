"""Tensors of a second network by name, as a `state_dict` has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from steppe.errors import SettingError, brief


def tensors_of(what: str, weights: Any, names: Iterable[str]) -> Mapping[str, Tensor]:
    """Tensors by name.

    Args:
        what: name of the argument, for the message.
        weights: a network or a state_dict.
        names: of the measured network. A prefix of all tensors, such as "module." of
            `DataParallel`, is taken off, or put before all, where no name fits else.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    if not isinstance(state, Mapping) or not all(
        isinstance(t, Tensor) for t in state.values()
    ):
        raise SettingError(
            f"{what} must be a network or its state_dict, got {brief(weights)}."
        )
    own = set(names)
    if own.isdisjoint(state) and own and _have_one_prefix(own):
        prefix = next(iter(own)).partition(".")[0]
        longer = {f"{prefix}.{name}": tensor for name, tensor in state.items()}
        if not own.isdisjoint(longer):
            return longer
    while own.isdisjoint(state) and _have_one_prefix(state):
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    return state


def check_shapes(
    what: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    """Refuse tensors that are missing or of another shape."""
    for name, tensor in own.items():
        shape = tuple(state[name].shape) if name in state else "none"
        if shape != tuple(tensor.shape):
            raise SettingError(
                f"{what} must have the tensors of the measured network, but {name} is "
                f"of shape {tuple(tensor.shape)} there and {shape} in {what}."
            )


def _have_one_prefix(names: Iterable[str]) -> bool:
    parts = [name.partition(".") for name in names]
    return all(dot for _, dot, _ in parts) and len({first for first, *_ in parts}) == 1
