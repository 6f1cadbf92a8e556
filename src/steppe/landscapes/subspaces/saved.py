"""Subspaces as files of directions, and back.

Files have the layout of Li et al., 2018, arXiv:1712.09913, in the published code, whose
files are read too. Differences: its directions of states move no counts, and a running
variance is at least 0.

Shape letters: P parameter tensors, B buffers that move, K directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any, Self

import torch
from torch import Tensor, nn

from steppe.errors import DataError, UsageError, brief
from steppe.landscapes.buffers import buffers_of
from steppe.landscapes.directions.norms import UNITS
from steppe.landscapes.subspaces.abstract import Axis, Subspace
from steppe.parameters import trainable
from steppe.surfaces.files.directions import (
    Directions,
    digest_of_tensors,
    load_directions,
    save_directions,
)

Path = str | PathLike[str]


def stored(subspace: Subspace) -> Directions:
    """Directions of a subspace as its file has them; see `Subspace.stored`."""
    if subspace.course is not None:
        raise UsageError(
            "a curve has no directions to store; save the curve itself, or the plane "
            "of its bend."
        )
    count = len(subspace.directions)
    ends = subspace.end_buffers or (None,) * count
    along = subspace.buffer_directions or ({},) * count
    for end, moving in zip(ends, along, strict=True):
        if end is not None and moving:
            raise UsageError(
                "an axis along which buffers move both to a network and in a direction "
                "of states cannot be saved; leave out orthogonal=True."
            )
    changes = [
        dict(moving) if end is None else _differences(subspace.buffers, end)
        for end, moving in zip(ends, along, strict=True)
    ]
    buffers = [name for name in subspace.buffers if any(name in c for c in changes)]
    rows = [
        [change.get(name, torch.zeros_like(subspace.buffers[name])) for name in buffers]
        for change in changes
    ]
    return Directions(
        tensors=tuple(
            (*direction, *row)
            for direction, row in zip(subspace.directions, rows, strict=True)
        ),
        names=(*subspace.names, *buffers),
        kind="states" if buffers else "weights",
        ends=tuple(end is not None for end in ends),
        mixing=subspace.mixing,
        base=subspace.digests["weights"],
        details=dict(subspace.details),
        axes=tuple(asdict(axis) for axis in subspace.axes),
        batch_norm=(
            subspace.batch_norm if isinstance(subspace.batch_norm, str) else ""
        ),
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class SavedSubspace(Subspace):
    """A subspace along directions, which are read from files; a curve has none."""

    @classmethod
    def from_file(
        cls, path: Path, model: nn.Module, *, other_base: bool = False
    ) -> Self:
        """The subspace through a model along the directions of a file.

        Args:
            path: a file of `save`, of `Surface.save` with directions, or of the
                published code of Li et al.; of that, the kind of directions ("weights"
                or "states") is in the name.
            model: its parameters that require a gradient are the base point.
            other_base: allow directions that were made around other parameters, such
                as those of another run, whose surfaces then have the same directions.

        Raises:
            DataError: no such file, or one that is damaged, of another number of axes,
                of another model, or around other parameters.
            SettingError: `model` is no network.
        """
        return cls(**_fields(path, model, cls.dimensions, other_base=other_base))

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the directions to a file, which `from_file` of the class reads.

        The base point is not in it, but its digest is. Points that networks are at are
        met up to rounding by the subspace of the file. The published code of Li et al.,
        2018, arXiv:1712.09913, reads files of HDF5 where all parameters require a
        gradient and no buffers move; those stand behind all parameters.

        Args:
            path: see `Surface.save`; beyond 256 MB the file has the recipe alone.
            overwrite: replace a file of others too.

        Raises:
            DataError: a file of other directions, or of something else.
            SettingError: another ending, or a folder.
            UsageError: see `stored`; or h5py is not installed.
            OSError: no space, or no right to write; a file there stays.
        """
        save_directions(self.stored(), path, overwrite=overwrite)


def _fields(
    path: Path, model: nn.Module, axes: int | None, *, other_base: bool
) -> dict[str, Any]:
    """Fields of the subspace of a file; see `SavedSubspace.from_file`."""
    named, buffers = trainable(model), buffers_of(model)
    base = {name: p.detach().clone() for name, p in named.items()}
    directions = load_directions(path)
    if not directions.tensors:
        raise DataError(
            f"{path} holds no tensors, as they are larger than 256 MB; make the "
            f"subspace anew from its recipe, {brief(dict(directions.details))}."
        )
    count = len(directions.tensors)
    if axes not in (None, count):
        raise DataError(
            f"{path} holds {_directions(count)}, and the subspace has {axes} axes; "
            "name another file, or use the class for that number of axes."
        )
    if not other_base and directions.base not in ("", digest_of_tensors(base)):
        raise DataError(
            f"{path} holds directions around other parameters than those of the model; "
            "load the weights they were made for, or pass other_base=True."
        )
    rows = [_by_name(path, directions, model, row) for row in directions.tensors]
    ends = directions.ends or (False,) * count
    moving = [_buffers(row, buffers) for row in rows]
    along = [
        {} if end else {n: d for n, d in row.items() if d.is_floating_point()}
        for row, end in zip(moving, ends, strict=True)
    ]
    return {
        "names": tuple(base),
        "base": tuple(base.values()),
        "directions": tuple(
            tuple(row[name].to(b) for name, b in base.items()) for row in rows
        ),
        "axes": _axes(directions),
        "buffers": buffers,
        "end_buffers": tuple(
            _ends(buffers, row) if end else None
            for row, end in zip(moving, ends, strict=True)
        )
        if any(ends)
        else (),
        "mixing": directions.mixing,
        "buffer_directions": tuple(along) if any(along) else (),
        "details": dict(directions.details)
        if directions.base
        else {"subspace": "file", **directions.details},
        "batch_norm": directions.batch_norm
        or ("interpolate" if any(along) else "freeze"),
    }


def _differences(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Buffers of a network less those of the base, where they differ; flags as 0, 1."""
    return {
        name: _number(end[name]) - _number(b)
        for name, b in start.items()
        if not torch.equal(b, end[name])
    }


def _ends(
    start: Mapping[str, Tensor], changes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {
        name: (_number(b) + changes[name].to(_number(b))).to(b.dtype)
        if name in changes
        else b
        for name, b in start.items()
    }


def _number(tensor: Tensor) -> Tensor:
    return tensor.to(torch.int8) if tensor.dtype == torch.bool else tensor


def _by_name(
    path: Path, directions: Directions, model: nn.Module, row: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    """Tensors of a direction by their names in a model, without frozen ones."""
    present = _places(directions, model)
    names = directions.names or tuple(present)
    if len(names) != len(row) or not set(names) <= set(present):
        raise DataError(
            f"{path} holds directions of {len(row)} tensors, and the model has "
            f"{len(present)} {directions.kind} of its own names; use the model that "
            "they were made for."
        )
    for name, tensor in zip(names, row, strict=True):
        if tensor.shape != present[name].shape:
            raise DataError(
                f"{path} holds directions of another model: {name} is of shape "
                f"{tuple(present[name].shape)} in the model and {tuple(tensor.shape)} "
                "in the file; use the model that they were made for."
            )
    return _of_moving(path, dict(zip(names, row, strict=True)), model)


def _places(directions: Directions, model: nn.Module) -> dict[str, Tensor]:
    """Tensors of a model that directions of a kind are of, in the published order."""
    if directions.names:
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if directions.kind == "weights":
        return dict(model.named_parameters())
    state = model.state_dict()
    return {name: t for name, t in state.items() if isinstance(t, Tensor)}


def _of_moving(
    path: Path, row: dict[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """The row under one name for each tensor; refused where a frozen one moves."""
    for name, p in model.named_parameters():
        if p.requires_grad and name not in row:
            raise DataError(
                f"{path} has no direction of {name}, which requires a gradient in the "
                "model; freeze it, or use the model that the directions were made for."
            )
    first: dict[int, str] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        own = first.setdefault(id(p), name)
        if name in row and not p.requires_grad and bool(row[name].any()):
            raise DataError(
                f"{path} moves {name}, which is frozen in the model; let it require a "
                "gradient."
            )
        if own != name and name in row and not torch.equal(row[name], row[own]):
            raise DataError(
                f"{path} moves {own} and {name} differently, which are one tensor in "
                "the model; use the model that the directions were made for."
            )
    return row


def _buffers(
    row: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Those of a row that move a buffer."""
    return {
        name: row[name].to(b) if b.is_floating_point() else row[name].to(b.device)
        for name, b in buffers.items()
        if name in row and bool(row[name].any())
    }


def _axes(directions: Directions) -> tuple[Axis, ...]:
    if directions.axes:
        return tuple(Axis(**axis) for axis in directions.axes)
    norms = [directions.details.get(f"{letter}norm", "") for letter in "xy"]
    first, *_ = norms
    count = len(directions.tensors)
    units = [UNITS.get(norm or first, UNITS["none"]) for norm in norms]
    return tuple(Axis(unit=unit) for unit in units[:count])


def _directions(count: int) -> str:
    return "one direction" if count == 1 else f"{count} directions"
