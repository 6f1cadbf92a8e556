"""Directions of a subspace, and their files.

Names are those of Li et al., 2018, arXiv:1712.09913, in the published code: a group for
each axis, `xdirection`, `ydirection`, and in it the tensors by their number.

Shape letters: P tensors, K directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from steppe.batches import digest_of
from steppe.errors import DataError
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.files.formats import (
    WRITERS,
    check_target,
    is_direction,
    read_stored,
    write_stored,
)
from steppe.surfaces.files.recipes import check_recipe
from steppe.surfaces.files.reference_names import flags_of
from steppe.surfaces.files.stored import (
    DAMAGE,
    FORMAT,
    Attribute,
    Stored,
    Variable,
    array_of,
    reason,
    tensor_of,
)
from steppe.surfaces.surface import letters_of

# Numbers of principal components: arrays of the file, and names in the details.
COMPONENTS = {
    "explained_variance_ratio_": "explained_variance_ratio",
    "explained_variance_": "explained_variance",
    "singular_values_": "singular_values",
}
LIMIT = 256 * 2**20  # bytes of directions that are written beside their recipe

Kind = Literal["weights", "states"]  # of parameters alone, or of buffers too


@dataclass(frozen=True, kw_only=True)
class Directions:
    """K directions of P tensors each."""

    tensors: tuple[tuple[Tensor, ...], ...]  # K times P; none where left out
    names: tuple[str, ...] = ()  # P; none in files of the published code
    kind: Kind = "weights"
    # Of each axis, whether its buffers lead to those of a network at 1.
    ends: tuple[bool, ...] = ()
    mixing: tuple[tuple[float, ...], ...] = ()  # as subspaces have it
    base: str = ""  # digest of the base point; "" in files of the published code
    details: Mapping[str, Any] = field(default_factory=dict)  # how they were made
    axes: tuple[Mapping[str, Any], ...] = ()  # fields of each axis
    batch_norm: str = ""  # buffers at a point where nothing else is asked
    recorded: str = ""  # digest that a file without the tensors has

    @property
    def digest(self) -> str:
        """The start of the SHA-256 of the tensors as files have them."""
        if not self.tensors:
            return self.recorded
        as_stored = [[tensor_of(array_of(t)) for t in each] for each in self.tensors]
        return digest_of([list(self.names), as_stored])


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """The start of the SHA-256 of tensors with their names, types and shapes."""
    return digest_of([list(tensors), [t.detach() for t in tensors.values()]])


def variables_of(
    directions: Directions, limit: int = LIMIT
) -> tuple[dict[str, Variable], dict[str, Attribute]]:
    """Arrays and attributes of directions.

    Args:
        directions: to write.
        limit: bytes; of more the recipe and the digest are written alone.
    """
    size = sum(t.numel() * t.element_size() for d in directions.tensors for t in d)
    letters = letters_of(len(directions.tensors))
    about = {
        "names": list(directions.names),
        "kind": directions.kind,
        "ends": directions.ends,
        "mixing": directions.mixing,
        "base": directions.base,
        "digest": directions.digest,
        "details": dict(directions.details),
        "axes": [dict(axis) for axis in directions.axes],
        "batch_norm": directions.batch_norm,
    }
    attributes: dict[str, Attribute] = {"directions": to_json(about)}
    if size > limit:
        return {}, attributes
    # Readers of the published code take them for the labels of the axes.
    variables = {
        array: Variable(np.array(directions.details[name], dtype=np.float64))
        for array, name in COMPONENTS.items()
        if name in directions.details
    }
    variables |= {
        f"{letter}direction/{number}": Variable(
            array_of(tensor),
            attributes={"name": directions.names[number]} if directions.names else {},
        )
        for letter, tensors in zip(letters, directions.tensors, strict=True)
        for number, tensor in enumerate(tensors)
    }
    return variables, attributes


def save_directions(
    directions: Directions,
    path: str | PathLike[str],
    limit: int = LIMIT,
    *,
    overwrite: bool = False,
) -> None:
    """Write directions to a file of their own.

    Args:
        directions: to write.
        path: with the ending of an HDF5 file or .npz; see `Surface.save`.
        limit: see `variables_of`.
        overwrite: replace a file of others too.

    Raises:
        DataError: a file of other directions, or of something else.
        SettingError, UsageError, OSError: see `write_stored`.
    """
    target = Path(path)
    check_target(target, WRITERS)
    if target.exists() and not overwrite:
        _check_own(target, directions)
    variables, attributes = variables_of(directions, limit)
    write_stored(target, Stored(variables, {"format": FORMAT, **attributes}))


def _check_own(target: Path, directions: Directions) -> None:
    """Refuse to replace a surface, or other directions."""
    if "samples" in read_stored(target, is_direction).attributes:
        raise DataError(
            f"{target} holds a surface; name another file, or pass overwrite=True to "
            "replace it."
        )
    recipes = [
        {**each.details, "base": each.base, "directions": each.digest}
        for each in (load_directions(target), directions)
    ]
    check_recipe(target, *recipes)


def load_directions(path: str | PathLike[str]) -> Directions:
    """Read directions, of steppe or of the published code of Li et al.

    Raises:
        DataError: no such file, damaged, or without directions.
        UsageError: the package of the format is not installed.
    """
    directions = directions_within(path)
    if directions is None:
        raise DataError(f"{path} holds no directions, as it has no xdirection.")
    return directions


def directions_within(path: str | PathLike[str]) -> Directions | None:
    """Directions of a file that may be one of a surface; None where there are none."""
    source = Path(path)
    stored = read_stored(source, lambda name: is_direction(name) or name in COMPONENTS)
    tensors = _tensors(stored, source)
    if "directions" not in stored.attributes:
        return _published(stored, tensors, source) if tensors else None
    try:
        about = from_json(str(stored.attributes["directions"]))
        digest = about.pop("digest")
        directions = Directions(
            **{
                **about,
                "tensors": tensors,
                "names": tuple(about["names"]),
                "axes": tuple(about["axes"]),
                "recorded": "" if tensors else digest,
            }
        )
    except DAMAGE as error:
        raise DataError(
            f"{source} holds damaged directions ({reason(error)}); write it again."
        ) from error
    if directions.digest != digest:
        raise DataError(
            f"{source} holds other tensors than were written; write it again."
        )
    return directions


def _tensors(stored: Stored, source: Path) -> tuple[tuple[Tensor, ...], ...]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, variable in stored.variables.items():
        if name in COMPONENTS:
            continue
        group, _, number = name.partition("/")
        groups.setdefault(group, {})[number] = tensor_of(variable.values)
    directions = []
    for letter in letters_of(len(groups)):
        # Names are numbers: as texts, "10" would stand before "2".
        tensors = groups.get(f"{letter}direction", {})
        if set(tensors) != {str(i) for i in range(len(tensors))} or not tensors:
            raise DataError(
                f"{source} lacks tensors of {letter}direction, which must be numbered "
                "from 0; write it again."
            )
        directions.append(tuple(tensors[str(i)] for i in range(len(tensors))))
    return tuple(directions)


def _published(
    stored: Stored, tensors: tuple[tuple[Tensor, ...], ...], source: Path
) -> Directions:
    """Directions of the published code, which has their kind in the name alone."""
    flags = flags_of(str(source))
    components = {
        name: stored.variables[array].values.tolist()
        for array, name in COMPONENTS.items()
        if array in stored.variables
    }
    states = flags.pop("dir_type", "weights") == "states"
    return Directions(
        tensors=tensors,
        kind="states" if states else "weights",
        details={**flags, **components},
    )
