"""States of several optimizers as one, in torch's form, and back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import UnionType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import CheckpointError, SteppeError, brief
from steppe.registry.registry import one_line


@contextmanager
def reading(owner: str) -> Iterator[None]:
    """Say in one sentence that a state is damaged, whatever reading it raises.

    Raises:
        CheckpointError: in the place of any error that is none of steppe's.
    """
    try:
        yield
    except SteppeError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"the state of {owner} is damaged ({one_line(error)}); nothing has been "
            "loaded, give what state_dict() returned."
        ) from error


def check_entries(
    state: Any, kinds: Mapping[str, type | UnionType], owner: str
) -> None:
    """Refuse a state that is no dict, or has entries of other types or none at all.

    Counts, which are whole numbers, must not be negative.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"the state of {owner} must be a dict, got {type(state).__name__}; give "
            "what state_dict() returned."
        )
    for name, kind in kinds.items():
        value: Any = state.get(name)
        wrong = name not in state or not isinstance(value, kind)
        wrong |= isinstance(value, bool) and kind is not bool
        wrong |= isinstance(value, float) and not math.isfinite(value)
        if wrong or (kind is int and value < 0):
            got = brief(value) if name in state else "nothing"
            raise CheckpointError(
                f"the state of {owner} has no sound '{name}', got {got}; give what "
                "state_dict() returned."
            )


def joined_state(bases: Sequence[Optimizer]) -> dict[str, Any]:
    """One state with the groups of all bases; parameters are numbered through."""
    joined: dict[str, Any] = {"state": {}, "param_groups": []}
    offset = 0
    for base in bases:
        part = base.state_dict()
        joined["state"] |= {offset + i: s for i, s in part["state"].items()}
        for group in part["param_groups"]:
            moved = [offset + i for i in group["params"]]
            joined["param_groups"].append({**group, "params": moved})
        offset += sum(_sizes(base.param_groups))
    return joined


def split_state(
    joined: Mapping[str, Any], bases: Sequence[Optimizer]
) -> Iterator[tuple[Optimizer, dict[str, Any]]]:
    """Each base with its part of a joined state.

    Raises:
        CheckpointError: no state of an optimizer, or one with groups of other sizes;
            before anything is given.
    """
    if not {"state", "param_groups"} <= joined.keys():
        raise CheckpointError(
            "this is no state of an optimizer, which has 'state' and 'param_groups', "
            f"but {sorted(map(str, joined))[:5]}; pass what its state_dict() gave."
        )
    if any("old_p" in state for state in joined["state"].values()):
        joined = _without_copies(joined)
    saved = _sizes(joined["param_groups"])
    ours = [size for base in bases for size in _sizes(base.param_groups)]
    if saved != ours:
        raise CheckpointError(
            f"the state has groups of {saved} parameters, this optimizer of {ours}; "
            "make it over the same groups."
        )
    return _parts(joined, bases)


def _without_copies(joined: Mapping[str, Any]) -> dict[str, Any]:
    """A two-call SAM's state: copies of the weights, but nothing of its base."""
    warnings.warn(
        "this state is of a two-call SAM (it holds 'old_p'), which does not save the "
        "momentum or moments of its base: settings of the base are loaded, its state "
        "starts afresh.",
        stacklevel=4,
    )
    left = {
        number: {key: value for key, value in state.items() if key != "old_p"}
        for number, state in joined["state"].items()
    }
    state = {number: kept for number, kept in left.items() if kept}
    return {**joined, "state": state}


def check_method(own: Mapping[str, Any], method: str, newest: int) -> None:
    """Refuse the state of another method, in a form from the future, or damaged."""
    check_entries(own, {"format": int, "method": str}, method)
    if own["format"] > newest:
        raise CheckpointError(
            f"the state has format {own['format']}, this steppe reads up to "
            f"{newest}; upgrade steppe."
        )
    if own["method"] != method:
        raise CheckpointError(
            f"the state is of {own['method']}, not of {method}; "
            f"make a {own['method']} to continue it."
        )
    kinds = {"steps": int, "generator": Tensor | None, "memory": Mapping}
    check_entries(own, kinds, method)


def resume_draws(generator: torch.Generator, saved: Tensor) -> None:
    """Set a generator to a saved state, if that is of the same kind of device."""
    try:
        generator.set_state(saved.cpu())
    except RuntimeError:
        warnings.warn(
            "the state was saved with a generator of another kind of device than "
            f"{generator.device}; its draws begin anew from the seed.",
            stacklevel=4,
        )


def _parts(
    joined: Mapping[str, Any], bases: Sequence[Optimizer]
) -> Iterator[tuple[Optimizer, dict[str, Any]]]:
    offset, groups = 0, list(joined["param_groups"])
    for base in bases:
        mine = [groups.pop(0) for _ in base.param_groups]
        size = sum(_sizes(mine))
        numbers = range(offset, offset + size)
        state = {i - offset: s for i, s in joined["state"].items() if i in numbers}
        parts = [
            {**group, "params": [i - offset for i in group["params"]]} for group in mine
        ]
        yield base, {"state": state, "param_groups": parts}
        offset += size


def _sizes(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    return [len(group["params"]) for group in groups]
