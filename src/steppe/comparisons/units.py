"""The data of two objectives, as units that can be left out.

A unit is a sample where the losses of a batch are those of its rows each for itself,
and a whole batch elsewhere, as with batch statistics.

Shape letters: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError, SettingError
from steppe.objective import Objective
from steppe.samples import is_row_by_row, on_batches, rows_of, take_rows
from steppe.torch_internals import tree_leaves

Unit = Literal["sample", "batch"]
ONE_DATA = (
    "make both of one list: batches = list(loader), then Objective(model, batches)"
)


def check_comparable(a: Objective, b: Objective) -> None:
    """Refuse objectives of different data, losses or modes, or of one network.

    Raises:
        SettingError: another loss or mode, or the same parameters twice.
        DataError: other samples, or in another order or other batches.
    """
    if all(p is q for p, q in zip(a.params, b.params, strict=False)):
        raise SettingError(
            "both objectives have the same network, so that they cannot differ; load "
            "the second checkpoint into a network of its own (copy.deepcopy(model))."
        )
    if a.mode != b.mode:
        raise SettingError(
            f"both objectives must have one mode, got '{a.mode}' and '{b.mode}'; give "
            "mode= to both."
        )
    if not _same_loss(a, b):
        raise SettingError(
            f"both objectives must have one loss, got '{a.loss_name}' and "
            f"'{b.loss_name}'; give both the same function."
        )
    if a.penalty != b.penalty:
        raise SettingError(
            f"both objectives must have one penalty, got {a.penalty} and {b.penalty}; "
            "give both the same."
        )
    if len(a.batches) != len(b.batches):
        raise DataError(
            f"both objectives must have the same batches, got {len(a.batches)} and "
            f"{len(b.batches)} of them; {ONE_DATA}."
        )
    for number, (one, other) in enumerate(zip(a.batches, b.batches, strict=True)):
        if not _same(one, other):
            raise DataError(
                "both objectives must have the same samples in the same order, but "
                f"their batches {number} differ; {ONE_DATA}."
            )


def unit_of(objectives: Sequence[Objective]) -> Unit:
    """The unit that can be left out of the data of all objectives."""
    batches = objectives[0].batches
    if any(rows_of(batch) is None for batch in batches):
        return "batch"
    return "sample" if all(map(is_row_by_row, objectives)) else "batch"


def unit_count(objective: Objective, unit: Unit) -> int:
    """Number of units in the data.

    Raises:
        SettingError: samples of batches that have no rows.
    """
    if unit == "batch":
        return len(objective.batches)
    rows = [rows_of(batch) for batch in objective.batches]
    known = [count for count in rows if count is not None]
    if len(known) < len(rows):
        raise SettingError(
            "unit must be 'batch' for batches without rows, got 'sample'; tensors of a "
            "batch need one row for each sample along dimension 0."
        )
    return sum(known)


def part_of(objective: Objective, unit: Unit, kept: Tensor) -> Objective:
    """The objective on some units of its data.

    Args:
        objective: on all of the data.
        unit: that is kept or left out.
        kept: True for each unit that stays, shape (units,).
    """
    if unit == "batch":
        numbers = kept.nonzero()[:, 0].tolist()
        batches = [objective.batches[i] for i in numbers]
    else:
        sizes = [rows_of(batch) or 0 for batch in objective.batches]
        rows = [part.nonzero()[:, 0] for part in torch.split(kept, sizes)]
        numbers = [i for i, some in enumerate(rows) if len(some)]
        batches = [take_rows(objective.batches[i], rows[i]) for i in numbers]
    part = on_batches(objective, batches)
    # Batches that stay have the masks that they have among all: others would be noise
    # that the jackknife takes for an influence of those left out.
    part.numbers = [objective.numbers[i] for i in numbers]
    return part


def _same_loss(a: Objective, b: Objective) -> bool:
    if a.loss is b.loss or (isinstance(a.loss, str) and a.loss == b.loss):
        return True
    # Modules such as CrossEntropyLoss are made anew for each objective.
    modules = isinstance(a.loss, torch.nn.Module) and isinstance(b.loss, type(a.loss))
    return modules and _same(_settings_of(a.loss), _settings_of(b.loss))


def _settings_of(loss: Any) -> dict[str, Any]:
    """Settings and tensors of a loss module."""
    plain = {k: v for k, v in vars(loss).items() if isinstance(v, float | int | str)}
    return {**plain, **loss.state_dict()}


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    left, right = tree_leaves(one), tree_leaves(other)
    if len(left) != len(right):
        return False
    return all(map(_same_leaf, left, right))


def _same_leaf(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        one, other = torch.from_numpy(one), torch.from_numpy(other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.layout != other.layout:
            return False
        # Of one device; missing values are the same as missing values.
        one, other = one.cpu(), other.cpu()
        return bool(((one == other) | ((one != one) & (other != other))).all())
    return type(one) is type(other) and bool(one == other)
