"""A damaged state is refused in one sentence, and nothing of it is loaded."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

import loops
from steppe import bases, compat
from steppe.averaging import AVERAGES
from steppe.errors import CheckpointError, SettingError
from steppe.optimizers import OPTIMIZERS

GONE = object()
Path = tuple[Any, ...]


def optimizer(entry: Any) -> Any:
    model = loops.make_model()
    opt = entry.make(loops.base_for(entry, model), **entry.spec.example)
    for x, y in loops.batches(2):
        loops.loop_step(opt, model, x, y)
    return opt


def average(entry: Any) -> Any:
    made = entry.make(loops.make_model(), **entry.spec.example)
    for _ in range(5):
        made.update()
    return made


def base(kind: Any) -> Any:
    model = loops.make_model()
    opt = kind(model.parameters(), lr=0.1)
    for x, y in loops.batches(2):
        loops.base_step(opt, model, x, y)
    return opt


def two_call(_: None) -> Any:
    model = loops.make_model()
    return compat.SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)


def published_gsam(_: None) -> Any:
    model = loops.make_model()
    plain = torch.optim.SGD(model.parameters(), lr=0.1)
    radius = compat.LinearScheduler(10, max_value=0.1, min_value=0.01)
    return compat.GSAM(model.parameters(), plain, model, 0.4, radius)


OWNERS: dict[str, Callable[[], Any]] = {
    **{e.name: lambda e=e: optimizer(e) for e in OPTIMIZERS},
    **{e.name: lambda e=e: average(e) for e in AVERAGES},
    **{k.__name__: lambda k=k: base(k) for k in (bases.PHB, bases.AdaBound)},
    "AdaShift": lambda: base(bases.AdaShift),
    "compat.SAM": lambda: two_call(None),
    "compat.GSAM": lambda: published_gsam(None),
}
# Entries of torch's own optimizers are theirs to check; these are steppe's.
OURS = {"steppe", "rho_scheduler", "format", "method", "steps", "copies", "numbers"}
OPTIONAL = {("steppe",), ("rho_scheduler",)}  # a base alone, another library, has none


def paths(state: Any, above: Path = ()) -> Iterator[Path]:
    """Places in a nested state, containers and what they hold."""
    items = state.items() if isinstance(state, dict) else ()
    for key, value in items:
        yield (*above, key)
        yield from paths(value, (*above, key))


def damaged(state: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    state = copy.deepcopy(state)
    place = state
    for key in path[:-1]:
        place = place[key]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return state


def harms(value: Any) -> list[Any]:
    """What an entry may have become that nothing can be read from."""
    if value is True or value is False:
        return [GONE, None, "text", 7]
    if isinstance(value, Tensor) and value.is_floating_point():
        return [None, "text", torch.zeros(2, 1, 3), value * math.nan]
    if isinstance(value, dict):
        return [GONE, None, 7]
    if value is None:
        return ["text"]
    return [GONE, None, "text", math.nan, -1]


def same(one: Any, other: Any) -> bool:
    flat, shape = tree_flatten(one)
    again, other_shape = tree_flatten(other)
    return shape == other_shape and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(flat, again, strict=True)
    )


def cases(owner: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    state = copy.deepcopy(owner.state_dict())
    for path in paths(state):
        if path[0] not in OURS or path in OPTIONAL:
            continue
        value = state
        for key in path:
            value = value[key]
        remembered = path[1:2] == ("memory",) and len(path) > 3
        for harm in harms(value):
            if remembered and (harm is GONE or isinstance(harm, int)):
                continue  # a younger state has nothing there, or another number
            yield (*path, harm), damaged(state, path, harm)
    for whole in (None, [], 7, {}, {"state": {}}, {"state": [], "param_groups": 3}):
        yield (whole,), whole


@pytest.mark.parametrize("make", OWNERS.values(), ids=OWNERS)
def test_a_damaged_state_is_refused_and_changes_nothing(make):
    owner = make()
    before = copy.deepcopy(owner.state_dict())
    taken, changed = [], []
    for path, state in cases(owner):
        with suppress(CheckpointError, SettingError):
            owner.load_state_dict(state)
            taken.append(path)
        if not same(owner.state_dict(), before):
            changed.append(path)
            owner.load_state_dict(copy.deepcopy(before))
    assert (taken, changed) == ([], [])
