"""A landscape in sentences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from steppe.surfaces import Surface, basins
from steppe_lab.reports.text.numbers import listed, number, percent, with_error

Place = tuple[float, ...]

BUFFERS = {
    "interpolate": "those between the networks",
    "freeze": "those of the first checkpoint",
    "reestimate": "re-estimated at every point",
}


def sentences(
    surface: Surface, checkpoints: Sequence[Path], base: tuple[float, float]
) -> list[str]:
    """The loss at the checkpoints, its range, and the rise between two networks.

    Args:
        surface: of one axis or more.
        checkpoints: see `places_of`.
        base: loss at the first one, and its standard error.
    """
    values = _values(surface)
    at_places = {(0.0,) * len(surface.coordinates): base} | values
    ends = [
        f"{with_error(*at_places[place])} at {path} {_shown(place)}"
        for place, path in places_of(surface, checkpoints).items()
        if place in at_places
    ]
    lines = [f"Loss {listed(ends)}."]
    lines += [
        f"{name.replace('_', ' ').capitalize()} {value} there."
        for name, value in _beside(surface)
    ]
    known = {at: loss for at, (loss, _) in values.items() if math.isfinite(loss)}
    lines.append(range_of(surface))
    if known:
        lines.append(basins(surface).sentence())
    lines += _interpolated(surface)
    lines += _between(surface, known, checkpoints)
    statistics = surface.details.get("batch_norm")
    if statistics in BUFFERS and len(checkpoints) > 1:
        lines.append(f"Running statistics are {BUFFERS[statistics]}.")
    return lines


def range_of(surface: Surface) -> str:
    """The highest and the lowest loss and their places, in a sentence or two."""
    values = _values(surface)
    known = {at: loss for at, (loss, _) in values.items() if math.isfinite(loss)}
    parts = []
    left = int(surface.unfinished.sum())
    if left:
        verb = "is" if left == 1 else "are"
        parts.append(f"{left} of {len(values)} points {verb} not evaluated yet.")
    if lost := len(values) - len(known) - left:
        parts.append(f"At {lost} of {len(values)} points the loss is not finite.")
    if known:
        most = max(known, key=known.__getitem__)
        least = min(known, key=known.__getitem__)
        where = "line" if len(surface.coordinates) == 1 else "grid"
        parts.append(
            f"On the {where} it is highest at {_bare(most)}, "
            f"{with_error(*values[most])}, and lowest at {_bare(least)}, "
            f"{with_error(*values[least])}."
        )
    return " ".join(parts)


def warnings(surface: Surface, checkpoints: Sequence[Path]) -> list[str]:
    """Sentences without full stops on a grid without its networks, or on equal ones.

    Args:
        surface: of one axis or more.
        checkpoints: as in `places_of`.
    """
    values = _values(surface)
    places = places_of(surface, checkpoints)
    missed = {place: path for place, path in places.items() if place not in values}
    # Planes along a direction of no length are refused.
    if surface.details.get("length") == 0 and len(checkpoints) == 2:
        both = listed(list(map(str, checkpoints)))
        return [f"{both} have the same weights, so nothing changes along x"]
    if not missed:
        return []
    named = listed([f"{path} {_shown(place)}" for place, path in missed.items()])
    why = [
        _without(letter, along, wanted)
        for i, (letter, along) in enumerate(zip(surface.letters, surface.coordinates))
        for wanted in sorted({place[i] for place in missed} - set(along))
    ]
    return [f"the grid has no point at {named}: {'; '.join(why)}"]


def _without(letter: str, along: Sequence[float], wanted: float) -> str:
    """A clause on an axis without a coordinate, and one way to have it."""
    low, high, count = min(along), max(along), len(along)
    if not low <= wanted <= high:
        return f"{letter} goes from {low:g} to {high:g}, without {wanted:g}"
    text = f"no coordinate along {letter} is {wanted:g}"
    if math.isclose(low + high, 2 * wanted, abs_tol=1e-9) and count % 2 == 0:
        return f"{text}, but with --{letter}={low:g}:{high:g}:{count + 1} one is"
    return f"{text}; choose a range or a list that has it"


def places_of(surface: Surface, checkpoints: Sequence[Path]) -> dict[Place, Path]:
    """Coordinates of the checkpoints.

    Args:
        surface: of one axis or more.
        checkpoints: the first is at 0; each other one is at 1 of an axis of its own.
    """
    count = len(surface.coordinates)
    origin = (0.0,) * count
    units = [tuple(float(i == k) for i in range(count)) for k in range(count)]
    return dict(zip([origin, *units], checkpoints, strict=False))


def _values(surface: Surface) -> dict[Place, tuple[float, float]]:
    """Loss and standard error at every point."""
    points = itertools.product(*reversed(surface.coordinates))
    losses, errors = surface.loss.flatten().tolist(), surface.stderr.flatten().tolist()
    return {
        tuple(reversed(point)): (loss, error)
        for point, loss, error in zip(points, losses, errors, strict=True)
    }


def _beside(surface: Surface) -> list[tuple[str, str]]:
    """Quantities of test samples at the first checkpoint, where it is on the grid."""
    if not all(0.0 in along for along in surface.coordinates):
        return []
    at = tuple(along.index(0.0) for along in reversed(surface.coordinates))
    return [
        (name, with_error(float(each.values[at]), float(each.stderr[at])))
        for name, each in surface.quantities.items()
        if name in ("test_loss", "test_accuracy") and each.stderr is not None
    ]


def _interpolated(surface: Surface) -> list[str]:
    about = surface.details.get("interpolation")
    if about is None:
        return []
    error = about["relative_error"]["loss"]
    return [
        f"{about['evaluated']:,} of {surface.loss.numel():,} points were evaluated, "
        "and the others interpolated, with relative errors of "
        f"{percent(error['rms'])} (at most {percent(error['max'])}) at "
        f"{about['tests']} points that were left out."
    ]


def _between(
    surface: Surface, known: Mapping[Place, float], checkpoints: Sequence[Path]
) -> list[str]:
    ends = {(0.0,), (1.0,)}
    line_between = len(surface.coordinates) == 1 and len(checkpoints) == 2
    if not (line_between and ends <= known.keys()):
        return []
    highest = max(loss for (x,), loss in known.items() if 0 <= x <= 1)
    barrier = highest - max(known[end] for end in ends)
    if barrier > 0:
        return [f"Between the two it rises {number(barrier)} above the higher end."]
    return ["Between the two it does not rise above the higher end."]


def _shown(place: Place) -> str:
    return f"({', '.join(f'{coordinate:.3g}' for coordinate in place)})"


def _bare(place: Place) -> str:
    """A place in a sentence: a number on a line, a bracket elsewhere."""
    shown = _shown(place)
    return shown.strip("()") if len(place) == 1 else shown
