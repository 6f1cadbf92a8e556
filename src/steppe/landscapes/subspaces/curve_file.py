"""Files of curves: the weights of their bends, and the state of a fit in work.

A file is a dictionary of tensors, texts and numbers that `torch.save` wrote, so that
`torch.load(path, weights_only=True)` reads it and no code runs. Its digest is that of
all content beside it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from steppe.batches import digest_of
from steppe.errors import DataError, SettingError, StoreError
from steppe.files import replace_file
from steppe.landscapes.subspaces.control_points import CurveKind
from steppe.surfaces.files.directions import digest_of_tensors
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.files.stored import DAMAGE

if TYPE_CHECKING:
    from steppe.landscapes.subspaces.curve import Curve

FORMAT = "steppe-curve/1"
ENDING = ".pt"
PARTS = ("kind", "ends", "bends", "directions", "losses", "recipe", "details", "fit")

State = Mapping[str, Tensor]  # by parameter name


@dataclass(frozen=True, kw_only=True)
class CurveFile:
    """Content of a file of a curve, on the host."""

    kind: CurveKind
    ends: tuple[str, str]  # digests of the parameters of both networks
    bends: Sequence[State]
    # From the first network to each bend, where the difference of the two is another.
    directions: Sequence[State] = ()
    losses: Sequence[float] = ()  # of the fit, one for each step
    recipe: Mapping[str, Any] = field(default_factory=dict)  # of the fit
    details: Mapping[str, Any] = field(default_factory=dict)  # how it was made
    fit: Mapping[str, Any] = field(default_factory=dict)  # empty where it is finished


def check_ending(path: str | PathLike[str]) -> Path:
    """The path of a curve's file.

    Raises:
        SettingError: another ending, or a folder.
    """
    target = Path(path)
    if target.suffix.lower() != ENDING or target.is_dir():
        raise SettingError(
            f"the file of a curve must end in {ENDING}, as those of torch.save do, got "
            f"{target}."
        )
    return target


def write(path: Path, content: CurveFile) -> None:
    """Write a file whole or not at all.

    Raises:
        StoreError: no space, or no right to write.
    """
    losses = torch.tensor(content.losses, dtype=torch.float64, device="cpu")
    parts = {
        "kind": content.kind,
        "ends": list(content.ends),
        "bends": [_plain(each) for each in content.bends],
        "directions": [_plain(each) for each in content.directions],
        "losses": losses,
        "recipe": to_json(dict(content.recipe)),
        "details": to_json(dict(content.details)),
        "fit": dict(content.fit),
    }
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **parts, "digest": _digest(parts)}, buffer)
    try:
        replace_file(path, buffer.getvalue())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StoreError(
            f"cannot write {path}: {reason}; make room or rights there, and make the "
            "same call again."
        ) from error


def read(path: Path) -> CurveFile:
    """Read a file; no code runs.

    Raises:
        DataError: no such file, one of something else, or a damaged one.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; name one that Curve.save wrote.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises any kind
        raise DataError(
            f"{path} cannot be read as a curve; name a file that Curve.save wrote."
        ) from error
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise DataError(
            f"{path} holds no curve of the format {FORMAT}; name a file that "
            "Curve.save wrote."
        )
    try:
        parts = {name: content[name] for name in PARTS}
        whole = content["digest"] == _digest(parts)
        first, last = parts["ends"]
        whole = whole and parts["kind"] in get_args(CurveKind)
        curve = CurveFile(
            kind=parts["kind"],
            ends=(first, last),
            bends=parts["bends"],
            directions=parts["directions"],
            losses=parts["losses"].tolist(),
            recipe=from_json(parts["recipe"]),
            details=from_json(parts["details"]),
            fit=parts["fit"],
        )
        if parts["losses"].dim() != 1 or not _is_formed(curve):
            raise TypeError("parts of other types")
    except DAMAGE as error:
        raise DataError(f"{path} holds a damaged curve; remove it.") from error
    if not whole:
        raise DataError(f"{path} holds another curve than was written; remove it.")
    return curve


def _is_formed(content: CurveFile) -> bool:
    """Whether content, which anyone may have written, has the types of a curve's."""
    states = [*content.bends, *content.directions]
    mappings = (content.recipe, content.details, content.fit, *states)
    return (
        len(content.bends) > 0
        and len(content.directions) in (0, len(content.bends))
        and all(isinstance(each, Mapping) for each in mappings)
        and all(isinstance(t, Tensor) for state in states for t in state.values())
    )


def save_curve(curve: Curve, path: str | PathLike[str], *, overwrite: bool) -> None:
    """Write a curve; see `Curve.save`."""
    target, content = check_ending(path), content_of(curve)
    if target.exists() and not overwrite:
        there = read(target)
        if _identity(there) != _identity(content):
            raise DataError(
                f"{target} holds another curve; name another file, or pass "
                "overwrite=True to replace it."
            )
    write(target, content)


def _identity(content: CurveFile) -> tuple[Any, ...]:
    # As texts: a recipe may hold values that files have in another form.
    return content.kind, content.ends, to_json(dict(content.recipe))


def content_of(curve: Curve) -> CurveFile:
    """Content of the file of a curve."""
    bends, directions = [], []
    for direction in curve.directions[:-1]:
        pairs = [*zip(curve.base, direction, strict=True)]
        bend = [p + d for p, d in pairs]
        bends.append(dict(zip(curve.names, bend, strict=True)))
        directions.append(dict(zip(curve.names, direction, strict=True)))
    # Sums of a fitted curve give its directions back; other ones may be rounded.
    exact = all(
        torch.equal(bend[name] - p, direction[name])
        for bend, direction in zip(bends, directions, strict=True)
        for name, p in zip(curve.names, curve.base, strict=True)
    )
    return CurveFile(
        kind=curve.kind,
        ends=ends_of(curve),
        bends=bends,
        directions=() if exact else directions,
        losses=curve.losses,
        recipe=curve.recipe,
        details=curve.details,
    )


def ends_of(curve: Curve) -> tuple[str, str]:
    """Digests of the parameters of the networks at 0 and at 1."""
    first, last = (
        digest_of_tensors(dict(zip(curve.names, each, strict=True)))
        for each in (curve.base, curve.exact[(1.0,)])
    )
    return first, last


def curve_at(
    path: str | PathLike[str], straight: Callable[[CurveKind, int], Curve]
) -> Curve:
    """The curve of a file; see `Curve.from_file`.

    Args:
        path: of the file.
        straight: the line of a kind and number of bends between the networks.
    """
    content = read(Path(path))
    if content.fit:
        raise DataError(
            f"{path} holds a fit that stopped after {len(content.losses)} steps; make "
            "the same call of fit with out= again, which goes on."
        )
    return bent_as(content, straight(content.kind, len(content.bends)), Path(path))


def bent_as(content: CurveFile, straight: Curve, path: Path) -> Curve:
    """A curve with the bends of a file.

    Args:
        content: of the file.
        straight: of the same kind and number of bends.
        path: of the file, for messages.

    Raises:
        DataError: a curve between other networks, or bends of other tensors.
    """
    ends = ends_of(straight)
    if content.ends != ends:
        swapped = content.ends == ends[::-1]
        fix = "swap the two" if swapped else "give those that it was made for"
        raise DataError(f"{path} holds a curve between other networks; {fix}.")
    own = dict(zip(straight.names, straight.base, strict=True))
    for state in (*content.bends, *content.directions):
        for name, p in own.items():
            tensor = state.get(name)
            if tensor is None or (tensor.shape, tensor.dtype) != (p.shape, p.dtype):
                raise DataError(
                    f"{path} holds a damaged curve, whose bends lack {name} as the "
                    "networks have it; remove it."
                )
    moved = content.directions or [
        {name: bend[name].to(p) - p for name, p in own.items()}
        for bend in content.bends
    ]
    directions = [tuple(each[n].to(p) for n, p in own.items()) for each in moved]
    return replace(
        straight,
        directions=(*directions, straight.directions[-1]),
        losses=tuple(content.losses),
        recipe=content.recipe,
        details=content.details,
    )


def _plain(state: State) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _digest(parts: Mapping[str, Any]) -> str:
    # Names of tensors are content too, and the leaves are the values alone.
    names = [list(each) for each in (*parts["bends"], *parts["directions"])]
    return digest_of([names, dict(parts)])
