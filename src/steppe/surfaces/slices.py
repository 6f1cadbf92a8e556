"""Lines and planes out of surfaces of more axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from steppe.errors import SettingError, brief
from steppe.surfaces.surface import Surface, Values, letters_of

_NEAR = 1e-9  # of the range: a coordinate that is written with fewer digits


def slice_of(surface: Surface, at: Mapping[str, float]) -> Surface:
    """The part of a surface at a coordinate of some axes; see `Surface.slice`."""
    letters = surface.letters
    for name in at:
        if name not in letters:
            raise SettingError(
                f"a surface of the axes {', '.join(letters)} has no axis "
                f"{brief(name)} to slice."
            )
    places = {
        letter: _place(letter, along, at[letter]) if letter in at else 0
        for letter, along in zip(letters, surface.coordinates, strict=True)
        if letter in at or len(along) == 1
    }
    kept = [k for k, letter in enumerate(letters) if letter not in places]
    if not kept:
        raise SettingError(
            "a slice must leave an axis of two coordinates or more, got a coordinate "
            f"of each of {', '.join(letters)}."
        )
    index = tuple(places.get(letter, slice(None)) for letter in reversed(letters))

    def part(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor[index].clone()

    values = {
        letter: surface.coordinates[letters.index(letter)][place]
        for letter, place in places.items()
    }
    return replace(
        surface,
        coordinates=tuple(surface.coordinates[k] for k in kept),
        loss=part(surface.loss),
        stderr=part(surface.stderr),
        rise_stderr=part(surface.rise_stderr),
        subset_stderr=part(surface.subset_stderr),
        computed=part(surface.computed),
        quantities={
            name: Values(values=part(q.values), stderr=part(q.stderr), units=q.units)
            for name, q in surface.quantities.items()
        },
        axes=tuple(surface.axes[k] for k in kept) if surface.axes else (),
        paths=(),
        arrows=(),
        details=_details(surface, kept, values),
    )


def sliced_to(surface: Surface, count: int) -> str:
    """A call of `slice` that gives so many axes, for messages."""
    several = [
        (letter, along)
        for letter, along in zip(surface.letters, surface.coordinates, strict=True)
        if len(along) > 1
    ]
    at = [
        f"{letter}={0.0 if 0.0 in along else along[0]!r}"
        for letter, along in several[count:]
    ]
    return f"slice({', '.join(at)})"


def _place(letter: str, along: tuple[float, ...], value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"{letter} must be a coordinate, got {brief(value)}.")
    near = min(range(len(along)), key=lambda i: abs(along[i] - value))
    slack = _NEAR * (max(along) - min(along))
    if not math.isclose(along[near], value, rel_tol=_NEAR, abs_tol=slack):
        raise SettingError(
            f"the surface has no point at {letter}={value!r}; the nearest is at "
            f"{along[near]!r}."
        )
    return near


def _details(
    surface: Surface, kept: list[int], values: Mapping[str, float]
) -> dict[str, Any]:
    """Details of the slice, of which those of single axes have its letters."""
    details = dict(surface.details)
    before = dict(details.get("slice", {}))
    if not values:
        return details
    old = [surface.letters[k] for k in kept]
    for name in ("range", "length"):
        of_axes = details.get(name)
        if isinstance(of_axes, Mapping) and all(letter in of_axes for letter in old):
            new = dict(zip(letters_of(len(old)), (of_axes[letter] for letter in old)))
            details[name] = new if len(new) > 1 else new["x"]
    cosines = details.get("cosine")
    if isinstance(cosines, Mapping):
        # By the letters of pairs, which are others now.
        pairs = {
            "".join(new): cosines.get("".join(pair))
            for new, pair in zip(
                itertools.combinations(letters_of(len(old)), 2),
                itertools.combinations(old, 2),
            )
        }
        details["cosine"] = pairs if len(pairs) > 1 else pairs.get("xy")
    elif len(old) < 2:
        details.pop("cosine", None)
    # By the letters of the whole, which are told apart in a slice of a slice.
    every = letters_of(len(surface.letters) + len(before))
    names = dict(zip(surface.letters, (e for e in every if e not in before)))
    details["slice"] = {**before, **{names[at]: c for at, c in values.items()}}
    if any(values.values()):
        details["has_centre"] = False
    return details
