"""Figures in words: the recipe of surfaces below a figure, and texts in its place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from steppe.plots.planes.values import (
    LOSS,
    Surfaces,
    axis_names,
    by_name,
    lattice,
    tensors_of,
    words_of,
)
from steppe.surfaces import Surface, Trajectory, basins

_WITHIN = 1e-6  # share of a distance that rounding takes off a plane, in float32
_RIGHT = 1e-5  # cosine of axes that stand at right angles, in float32
_BATCH_NORM = {
    "interpolate": "interpolated with the weights",
    "freeze": "frozen at the base point",
    "reestimate": "estimated anew at each point",
}


def footer(
    surfaces: Mapping[str, Surface], quantity: str, without: Sequence[str] = ()
) -> list[str]:
    """Facts of one or several surfaces; one that all share stands once.

    Args:
        surfaces: by name.
        quantity: that is drawn.
        without: subjects of a recipe that are left out.
    """
    recipes = {name: recipe(surface, quantity) for name, surface in surfaces.items()}
    facts = list(dict.fromkeys(fact for made in recipes.values() for fact in made))
    facts = [fact for fact in facts if fact not in without]
    lines = []
    for fact in facts:
        texts = {name: made[fact] for name, made in recipes.items() if fact in made}
        if len(texts) == len(recipes) and len(set(texts.values())) == 1:
            lines.append(next(iter(texts.values())))
        else:
            lines.append("; ".join(f"{name}: {text}" for name, text in texts.items()))
    return lines


def recipe(surface: Surface, quantity: str = LOSS) -> dict[str, str]:
    """Facts that a reader of the figure needs, by subject, each in a few words.

    Args:
        surface: that is drawn.
        quantity: that is drawn of it.
    """
    values, _ = tensors_of(surface, quantity)
    unfinished = surface.unfinished
    for axis, places in enumerate(lattice(surface, quantity)):
        values, unfinished = (
            each.index_select(axis, torch.from_numpy(places))
            for each in (values, unfinished)
        )
    facts: dict[str, str] = {}
    if surface.samples:
        facts["samples"] = _samples(surface)
    mode = surface.details.get("batch_norm")
    if mode is not None:
        facts["batch norm"] = f"batch norm {_BATCH_NORM.get(str(mode), mode)}"
    error = surface.stderr[torch.isfinite(surface.stderr)]
    if quantity == LOSS and error.numel() and float(error.max()) > 0:
        facts["error"] = f"standard error at most {short(float(error.max()))}"
    points, left = values.numel(), int(unfinished.sum())
    computed = surface.computed
    if computed is None or points < computed.numel() or bool(computed.all()):
        facts["points"] = f"{points:,} points"
    else:
        evaluated = int(computed.sum())
        facts["points"] = f"{evaluated:,} of {points:,} points evaluated"
        if between := points - evaluated - left:
            many = f"{between:,}" if left else "the others"
            apart = _interpolation(surface.details, quantity)
            facts["points"] += f", {many} interpolated{apart}"
    if left:
        facts["left"] = f"{_counted(left, 'point')} not evaluated yet (hatched)"
    lost = int((~torch.isfinite(values) & ~unfinished).sum())
    if lost:
        facts["lost"] = f"{_counted(lost, 'point')} not finite (hatched)"
    cosine = surface.details.get("cosine")
    if isinstance(cosine, int | float):
        # That of axes at right angles is rounding.
        shown = 0.0 if abs(cosine) < _RIGHT else cosine
        facts["cosine"] = f"cosine of the axes {shown:.2g}"
    if sliced := surface.details.get("slice"):
        at = ", ".join(f"{letter} = {c:g}" for letter, c in sliced.items())
        facts["slice"] = f"slice at {at} of more axes"
    for name, path in zip(path_names(surface), surface.paths):
        facts[f"path {name}"] = _apart(path, name)
    return facts


def alt(surfaces: Surfaces, *, quantity: str = LOSS) -> str:
    """A figure of surfaces in sentences, for those who do not see it.

    Args:
        surfaces: one, or several by name.
        quantity: that is drawn.

    Raises:
        SettingError: no surface, or no such quantity.
    """
    named = by_name(surfaces)
    return " ".join(_described(name, each, quantity) for name, each in named.items())


def short(value: float) -> str:
    """Three digits of a number, without a power of ten where it is no help.

    Example:
        >>> short(0.01234), short(5022.0)
        ('0.0123', '5,022')
    """
    large = 1000 <= abs(value) < 1e6
    return f"{value:,.0f}" if large else f"{value:.3g}"


def _described(name: str, surface: Surface, quantity: str) -> str:
    values, _ = tensors_of(surface, quantity)
    words = words_of(surface, quantity)
    subject = f"{name}: {words}" if name else words[0].upper() + words[1:]
    along = [
        f"{axis} from {min(places):g} to {max(places):g}"
        for axis, places in zip(axis_names(surface), surface.coordinates)
    ]
    start = f"{subject} over {' and '.join(along)}."
    known = torch.isfinite(values)
    if not known.any():
        return f"{start} No value is finite."
    least, most = (
        _place(surface, torch.where(known, values, fill), pick)
        for fill, pick in ((math.inf, torch.argmin), (-math.inf, torch.argmax))
    )
    facts = "; ".join(recipe(surface, quantity).values())
    if float(values[known].max()) == float(values[known].min()):
        return f"{start} It is {short(float(values[known][0]))} everywhere. {facts}."
    shape = f" {basins(surface).sentence()}" if quantity == LOSS else ""
    return f"{start} It is lowest, {least}, and highest, {most}.{shape} {facts}."


def _place(surface: Surface, values: Any, pick: Any) -> str:
    index = int(pick(values))
    value = float(values.flatten()[index])
    point = []
    for places in surface.coordinates:  # x changes fastest
        index, place = divmod(index, len(places))
        point.append(f"{places[place]:.3g}")
    return (
        f"{short(value)}, at {'(' + ', '.join(point) + ')' if point[1:] else point[0]}"
    )


def _samples(surface: Surface) -> str:
    """The samples that points are evaluated on, and of how many they are drawn."""
    part = surface.details.get("evaluated_terms")
    every = surface.details.get("terms")
    if part is None:
        return _counted(surface.samples, "sample")
    if part == surface.samples and isinstance(every, int):
        return f"{part:,} of {_counted(every, 'sample')}"
    return f"{_counted(surface.samples, 'sample')} drawn"


def _interpolation(details: Mapping[str, Any], quantity: str) -> str:
    """The error of interpolated points, where it is known."""
    errors = details.get("interpolation", {}).get("relative_error", {})
    error = errors.get(quantity, {}).get("max")
    if not isinstance(error, int | float) or not math.isfinite(error):
        return ""
    return f" (relative error at most {100 * error:.2g} % where tested)"


def path_names(surface: Surface) -> list[str]:
    """Names of trajectories; several of one name, or of none, are numbered."""
    given = [path.name or "trajectory" for path in surface.paths]
    return [
        f"{name} {given[: i + 1].count(name)}" if given.count(name) > 1 else name
        for i, name in enumerate(given)
    ]


def _apart(path: Trajectory, name: str) -> str:
    """How far the checkpoints of a trajectory are off the subspace."""
    name = "the trajectory" if name == "trajectory" else name
    whose = path.details.get("statistics")
    known = path.loss is not None and whose is not None
    tail = f"; its losses have running statistics {whose}" if known else ""
    shares = path.relative_residual[torch.isfinite(path.relative_residual)]
    if not shares.numel():
        # Of the published code, where the directions are not known.
        lengths = path.details.get("projection") == "cos"
        kind = ", by their lengths along each axis alone" if lengths else ""
        return f"{name}: {_counted(len(path.residual), 'checkpoint')}{kind}{tail}"
    if float(shares.max()) < _WITHIN:
        return f"{name} lies in the plane{tail}"
    return (
        f"{name} is off the plane by at most {100 * float(shares.max()):.2g} % of its "
        f"distance to the base point{tail}"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
